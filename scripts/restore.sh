#!/usr/bin/env bash
# Puts the stack back to a backup of scripts/backup.sh. What it holds now is replaced.
#
#   scripts/restore.sh FOLDER
#
# For a new machine: copy FOLDER/env to .env first. Rows and files are counted and compared by
# hash before the platform starts again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 1 ] && [ -f "$1/SHA256SUMS" ] || {
    sed -n 's/^# \{0,1\}//; 2,7p' "$0" >&2
    exit 2
}
folder="$(cd "$1" && pwd)"
(cd "$folder" && sha256sum --quiet -c SHA256SUMS) || {
    echo "restore: $folder is damaged; nothing was changed" >&2
    exit 1
}

# Whatever writes stands still.
mapfile -t writing < <(docker compose --profile '*' ps --services --status running | grep -vxE '|postgres|redis')
[ ${#writing[@]} -eq 0 ] || docker compose --profile '*' stop --timeout 150 "${writing[@]}"
docker compose up -d --wait postgres redis

psql_() { docker compose exec -T postgres psql -U mlops -v ON_ERROR_STOP=1 "$@"; }
database() { # name, owner
    psql_ -d postgres -q -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)" -c "CREATE DATABASE $1 OWNER $2" < /dev/null
    docker compose exec -T postgres pg_restore -U mlops --exit-on-error -d "$1" < "$folder/$1.dump"
    psql_ -d "$1" -At -c "$(< scripts/table_counts.sql)" < /dev/null | diff "$folder/$1.counts" - || {
        echo "restore: rows of $1 are missing, as listed" >&2
        exit 1
    }
}
files() { # service that mounts it, folder in it, name
    docker compose --profile '*' run --rm --no-deps -T --entrypoint sh "$1" \
        -c "find $2 -mindepth 1 -delete && tar -C $2 -x" < "$folder/$3.tar"
    [ ! -s "$folder/$3.sha256" ] || docker compose --profile '*' run --rm --no-deps -T --entrypoint sh "$1" \
        -c "cd $2 && sha256sum --quiet -c -" < "$folder/$3.sha256"
}

database mlops mlops
files migrate /data/media media
if [ -f "$folder/mlflow.dump" ]; then
    database mlflow mlflow
    files mlflow /data/mlartifacts mlartifacts
fi
# Messages of jobs that are no more; those of queued jobs are sent again by themselves.
docker compose exec -T redis sh -c 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli flushall' < /dev/null > /dev/null
echo "restore: $(wc -l < "$folder/media.sha256") files and $(awk -F'|' '{n += $2} END {print n}' "$folder/mlops.counts") rows are back; starting the platform"
# With what ran before; on a new machine, with what compose.yml starts by itself.
if [ ${#writing[@]} -gt 0 ]; then
    docker compose --profile '*' up -d --wait "${writing[@]}"
else
    docker compose up -d --wait
fi
