#!/usr/bin/env bash
# Writes .env with what compose.yml can't start without: secrets of this installation's own.
# What stands there already is kept, so that it may be run again after an upgrade.
set -euo pipefail
cd "$(dirname "$0")/.."
file="${1:-.env}"

umask 077
touch "$file"
chmod 600 "$file"
has() { grep -q "^$1=." "$file"; }
added=()
secret() { # name, bytes
    if has "$1"; then return; fi
    sed -i "/^$1=\$/d" "$file"
    printf '%s=%s\n' "$1" "$(python3 -c 'import secrets, sys; print(secrets.token_urlsafe(int(sys.argv[1])))' "$2")" >> "$file"
    added+=("$1")
}
secret SECRET_KEY 64
secret POSTGRES_PASSWORD 32
secret REDIS_PASSWORD 32
secret MLFLOW_DB_PASSWORD 32
secret FLOWER_PASSWORD 24
secret METRICS_TOKEN 32
secret GRAFANA_PASSWORD 24
secret MODEL_SERVER_TOKEN 32
secret QDRANT_API_KEY 32
secret WEBHOOK_SECRET 48
if ! has AWS_ACCESS_KEY_ID; then
    printf 'AWS_ACCESS_KEY_ID=mlops\n' >> "$file"
    secret AWS_SECRET_ACCESS_KEY 32
fi
if ! has IMAGE_TAG; then printf 'IMAGE_TAG=%s\n' "${IMAGE_TAG:-dev-cpu-py311}" >> "$file"; fi
if [ ${#added[@]} -eq 0 ]; then echo "env: $file has every secret already"; else echo "env: $file (mode 600) has new ${added[*]}"; fi
