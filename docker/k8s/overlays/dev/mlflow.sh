#!/bin/sh
# Run by PostgreSQL's image when the database is made: MLflow's own user and database beside ours.
set -eu
psql --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$MLFLOW_DB_PASSWORD" << 'SQL'
CREATE USER mlflow PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
SQL
