#!/usr/bin/env bash
# A backup of the running stack: its databases, its files, MLflow's artifacts and .env.
#
#   scripts/backup.sh [FOLDER]     default: var/backups/<date and time>
#
# The platform goes on meanwhile. The database is read first: a file that comes later is in the
# backup without a row, and none that a row names is missing unless it is deleted in that minute.
# COMPOSE_FILE and COMPOSE_ENV_FILES hold, as for docker compose.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-var/backups/$(date +%Y%m%d-%H%M%S)}"
umask 077
mkdir -p "$folder"
[ -z "$(ls -A "$folder")" ] || {
    echo "backup: $folder is not empty; name another folder" >&2
    exit 1
}

in_container() { docker compose exec -T "$@" < /dev/null; }
runs() { [ -n "$(docker compose ps --quiet --status running "$1" 2> /dev/null)" ]; }
for service in postgres admin-api; do
    runs "$service" || {
        echo "backup: $service does not run; start it: docker compose up -d --wait $service" >&2
        exit 1
    }
done

database() { # name
    in_container postgres pg_dump -U mlops --format custom "$1" > "$folder/$1.dump"
    in_container postgres psql -U mlops -d "$1" -At -v ON_ERROR_STOP=1 -c "$(< scripts/table_counts.sql)" > "$folder/$1.counts"
}
files() { # service, folder in it, name
    in_container "$1" tar -C "$2" -c . > "$folder/$3.tar"
    in_container "$1" sh -c "cd $2 && find . -type f -exec sha256sum {} +" | sort -k2 > "$folder/$3.sha256"
}

database mlops
files admin-api /data/media media
if runs mlflow; then
    database mlflow
    files mlflow /data/mlartifacts mlartifacts
fi
env_file="${COMPOSE_ENV_FILES:-.env}"
[ ! -f "$env_file" ] || cp "$env_file" "$folder/env"
(cd "$folder" && sha256sum -- * > SHA256SUMS)
echo "backup: $folder, $(du -sh "$folder" | cut -f1): $(wc -l < "$folder/media.sha256") files, $(awk -F'|' '{n += $2} END {print n}' "$folder/mlops.counts") rows"
echo "backup: its file env holds the secrets of this installation: keep it as safe as them"
