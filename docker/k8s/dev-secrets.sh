#!/usr/bin/env bash
# Secrets for overlays/dev, made up anew each time:
#   docker/k8s/dev-secrets.sh | kubectl create -f -
# `create` refuses where they are there already: the database has kept the first passwords.
set -euo pipefail

random() { python3 -c 'import secrets, sys; print(secrets.token_urlsafe(int(sys.argv[1])))' "$1"; }
postgres="$(random 32)"
mlflow="$(random 32)"
redis="$(random 32)"
cat << YAML
apiVersion: v1
kind: Secret
metadata: { name: mlops, namespace: mlops }
stringData:
  SECRET_KEY: "$(random 64)"
  DATABASE_URL: "postgresql://mlops:$postgres@postgres:5432/mlops"
  REDIS_URL: "redis://:$redis@redis:6379/0"
  WEBHOOK_SECRET: "$(random 48)"
---
apiVersion: v1
kind: Secret
metadata: { name: mlflow, namespace: mlops }
stringData:
  MLFLOW_BACKEND_STORE_URI: "postgresql+psycopg://mlflow:$mlflow@postgres:5432/mlflow"
---
apiVersion: v1
kind: Secret
metadata: { name: stores, namespace: mlops }
stringData:
  POSTGRES_PASSWORD: "$postgres"
  MLFLOW_DB_PASSWORD: "$mlflow"
  REDIS_PASSWORD: "$redis"
YAML
