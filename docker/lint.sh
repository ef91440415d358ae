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
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
tool() { if [ -x ".venv/bin/$1" ]; then echo ".venv/bin/$1"; else echo "$1"; fi; }

check presets python3 docker/preset.py check
check hadolint "$(tool hadolint)" docker/Dockerfile.* docker/standins/Dockerfile.*
if command -v nginx > /dev/null; then
    check "docker/proxy" env FOLDER="$made/proxy" docker/proxy/start.sh -t
else
    echo "left out: docker/proxy (there is no nginx here)"
fi
check shellcheck "$(tool shellcheck)" docker/*.sh docker/*/*.sh scripts/*.sh requirements/*.sh .ci/run
"$(tool python3)" docker/k8s/validate.py > "$made/kubernetes" 2>&1
case $? in
    0) echo "ok      kubernetes" ;;
    3) echo "left out: docker/k8s ($(cat "$made/kubernetes"))" ;;
    *) check kubernetes "$(tool python3)" docker/k8s/validate.py ;;
esac
if command -v promtool > /dev/null; then
    # The tokens' files are there only where Prometheus runs.
    check docker/prometheus promtool check config --syntax-only docker/prometheus/prometheus.yml
    check "alert rules" promtool check rules docker/prometheus/rules.yml
    check "alert rules' tests" promtool test rules docker/prometheus/rules_test.yml
else
    echo "left out: docker/prometheus (there is no promtool here)"
fi
if [ -x .venv/bin/cerbos ] || command -v cerbos > /dev/null; then
    check docker/cerbos "$(tool cerbos)" compile docker/cerbos/policies
else
    echo "left out: docker/cerbos (there is no cerbos here)"
fi

if docker compose version > /dev/null 2>&1; then
    env="$made/env"
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
