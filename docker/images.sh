#!/usr/bin/env bash
# Builds the images of a preset, the base first and only if what goes into it has changed.
#
#   images.sh build PRESET [SERVICE ...]   all services of the preset, or these
#   images.sh base PRESET                  the base alone
#   images.sh print PRESET                 what would be built, as JSON
#   images.sh save PRESET FILE             every image of the preset into one archive
#   images.sh load FILE                    and out of it again
#   images.sh push PRESET                  to REGISTRY
#   images.sh names PRESET                 the images' names
#
# From the environment: TAG (dev), REGISTRY (registry.example.org/mlops/), WHEELS (a folder of
# wheels), TORCH_INDEX and UV_DEFAULT_INDEX (mirrors), HTTP_PROXY, HTTPS_PROXY, NO_PROXY, CACHE
# (layers kept elsewhere: gha, or an image's name). Further arguments for `docker buildx bake` follow `--`.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "images: $*" >&2
    exit 1
}
usage() {
    sed -n 's/^# \{0,1\}//; 2,14p' "$0" >&2
    exit 2
}

command="${1:-}"
[ -n "$command" ] || usage
shift
if [ "$command" = load ]; then
    [ $# -eq 1 ] || usage
    gzip -dc "$1" | docker load
    exit
fi
[ $# -ge 1 ] || fail "which preset? One of: $(python3 docker/preset.py list | cut -d' ' -f1 | paste -sd' ')"
preset="$1"
shift
services=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    services+=("$1")
    shift
done
[ "${1:-}" != -- ] || shift
further=("$@")

# A mirror that the caller names takes the place of the preset's own.
torch_index="${TORCH_INDEX-unset}"
settings="$(python3 docker/preset.py env "$preset")" || exit 1
set -a
eval "$settings"
[ "$torch_index" = unset ] || TORCH_INDEX="$torch_index"
TAG="${TAG:-dev}"
REGISTRY="${REGISTRY:-}"
WHEELS="${WHEELS:-docker/wheels}"
REVISION="${REVISION:-$(git rev-parse --short HEAD 2> /dev/null || true)}"
set +a

target=ml-base
all=(ocr-cpu llm train web mlflow)
if [ "$KIND" = gpu ]; then
    target=ml-gpu-base
    all=(ocr-gpu llm train)
fi
[ -n "${SERVICES:-}" ] || all=()

# All that decides what is in the base: its recipe, its preset, its lock, the wheels at hand.
content_hash() {
    {
        printf '%s\n' "$UPSTREAM" "$PYTHON" "$TOOLS" "$NUMERIC" "$TORCH" "$TORCH_INDEX" \
            "$TENSORRT" "$TENSORRT_INDEX" "$PACKAGES"
        cat "docker/Dockerfile.$target" docker/install.sh docker/user.sh docker/health.sh \
            requirements/ml-base.txt
        find "$WHEELS" -name '*.whl' -printf '%f %s\n' 2> /dev/null | sort
        cat "$WHEELS/SHA256SUMS" 2> /dev/null || true
    } | sha256sum | cut -c1-12
}

digest() { docker image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$1" 2> /dev/null || true; }

INPUTS="$(content_hash)"
base="${REGISTRY}backend-$target:$PRESET_TAG-$INPUTS"
names() { # of the base and these services; all of them if none is named
    local service
    [ $# -gt 0 ] || set -- ${all[@]+"${all[@]}"}
    echo "${REGISTRY}backend-$target:$TAG-$PRESET_TAG"
    for service in "$@"; do echo "$REGISTRY$service:$TAG-$PRESET_TAG"; done
}
bake() { docker buildx bake -f docker/docker-bake.hcl "$@" ${further[@]+"${further[@]}"}; }
# A builder of its own (docker-container) sees no local images: there the base is built on the way.
sees_local_images() { [ "$(docker buildx inspect 2> /dev/null | sed -n 's/^Driver: *//p')" = docker ]; }

build_base() {
    if docker image inspect "$base" > /dev/null 2>&1; then
        echo "images: $base is up to date"
        docker tag "$base" "${REGISTRY}backend-$target:$TAG-$PRESET_TAG"
    else
        echo "images: building $base"
        UPSTREAM_DIGEST="$(digest "$UPSTREAM")" bake "$target"
    fi
}

export INPUTS
case "$command" in
    base) build_base ;;
    build)
        for service in ${services[@]+"${services[@]}"}; do
            [[ " ${all[*]} " == *" $service "* ]] \
                || fail "preset $preset has no image '$service'. It has: ${all[*]:-the base alone}"
        done
        [ ${#services[@]} -gt 0 ] || services=("${all[@]}")
        if sees_local_images; then
            build_base
            export BASE="$base"
            BASE_DIGEST="$(digest "$base")"
            export BASE_DIGEST
        fi
        UPSTREAM_DIGEST="$(digest "$UPSTREAM")"
        export UPSTREAM_DIGEST
        [ ${#services[@]} -eq 0 ] || bake "${services[@]}"
        names ${services[@]+"${services[@]}"}
        ;;
    print) bake --print "$target" ${all[@]+"${all[@]}"} ;;
    names) names ;;
    save)
        [ ${#services[@]} -eq 1 ] || usage
        for name in $(names); do
            docker image inspect "$name" > /dev/null 2>&1 \
                || fail "there is no $name here. Build it: make images PRESET=$preset TAG=$TAG"
        done
        # shellcheck disable=SC2046  # one word a name
        docker save $(names) | gzip -1 > "${services[0]}"
        echo "images: $(du -h "${services[0]}" | cut -f1) in ${services[0]}"
        ;;
    push)
        [ -n "$REGISTRY" ] || fail "where to? make images-push PRESET=$preset REGISTRY=registry.example.org/mlops/"
        for name in $(names); do
            docker image inspect "$name" > /dev/null 2>&1 \
                || fail "there is no $name here. Build it: make images PRESET=$preset TAG=$TAG REGISTRY=$REGISTRY"
            docker push "$name"
        done
        ;;
    *) usage ;;
esac
