#!/usr/bin/env bash
# Checks all that describes images and stack. Without docker the parts that need it are left out,
# which is said; what is checked either way are presets, Dockerfiles, scripts and manifests.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
failed=0
check() { # what, command...
    local what="$1" said
    shift
    if said="$("$@" 2>&1)"; then
        echo "ok      $what"
    else
        echo "failed  $what"
        printf '%s\n' "$said" | sed 's/^/        /'
        failed=1
    fi
}
tool() { if [ -x ".venv/bin/$1" ]; then echo ".venv/bin/$1"; else echo "$1"; fi; }

check presets python3 docker/preset.py check
check hadolint "$(tool hadolint)" docker/Dockerfile.* docker/standins/Dockerfile.*
check shellcheck "$(tool shellcheck)" docker/*.sh docker/*/*.sh scripts/*.sh requirements/*.sh .ci/run

if docker compose version > /dev/null 2>&1; then
    env="$(mktemp)"
    trap 'rm -f "$env"' EXIT
    docker/env.sh "$env" > /dev/null
    compose=(docker compose --env-file "$env" -f compose.yml)
    check "compose.yml" "${compose[@]}" config -q
    for profile in $("${compose[@]}" config --profiles); do
        check "compose.yml, profile $profile" "${compose[@]}" --profile "$profile" config -q
    done
    for override in docker/compose.*.yml; do
        check "$override" "${compose[@]}" -f "$override" --profile '*' config -q
    done
else
    echo "left out: docker compose config (there is no docker here)"
fi
if docker buildx version > /dev/null 2>&1; then
    for preset in docker/presets/*.json; do
        name="$(basename "$preset" .json)"
        check "bake $name" docker/images.sh print "$name"
    done
else
    echo "left out: docker buildx bake --print (there is no docker here)"
fi
exit "$failed"
