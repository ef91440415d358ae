#!/usr/bin/env bash
# Builds the GPU images' recipe on a host that reaches neither NVIDIA's images nor PyTorch's index.
# It shows that the Dockerfiles build; what comes of it sees no GPU.
#
#   standins/gpu.sh PRESET [SERVICE ...]     ocr-gpu llm train
#
# Stood in for, and nothing else: the image below (Python's own in place of CUDA's, and so its Python
# rather than the system's), and torch's build for CUDA (that of the index at hand, same version).
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2; exit 2; }
preset="$1"
shift
services=("$@")
[ $# -gt 0 ] || services=(ocr-gpu llm train)
standin="${STANDIN:-python:3.11-slim-bookworm}"

settings="$(python3 docker/preset.py env "$preset")"
set -a
eval "$settings"
[ "$KIND" = gpu ] || { echo "gpu.sh: $preset has no GPU: make images PRESET=$preset" >&2; exit 1; }
echo "stood in for: $UPSTREAM by $standin; ${TORCH_INDEX:-the index at hand} by the index at hand"
set +a
PYTHON="python$(cut -d: -f2 <<< "$standin" | cut -d- -f1)"
TORCH="${TORCH//+cu[0-9][0-9][0-9]/}"
export PYTHON TORCH UPSTREAM="$standin" TORCH_INDEX="" WHEELS="${WHEELS:-docker/wheels}" REGISTRY=""
export TAG="${TAG:-standin}" INPUTS=standin
if [ -n "$TENSORRT" ]; then
    echo "left out: $TENSORRT, whose index is out of reach"
    export TENSORRT="" TENSORRT_INDEX=""
fi
bake() { docker buildx bake -f docker/docker-bake.hcl "$@"; }
bake ml-gpu-base
BASE="backend-ml-gpu-base:$PRESET_TAG-$INPUTS" bake "${services[@]}"
