#!/usr/bin/env bash
# Fetches every wheel that the images of a preset install, so that they can be built without an
# index. pip checks each against the hash that its index states; SHA256SUMS has the builds check
# them again.
#
#   wheels.sh PRESET [FOLDER]     FOLDER: docker/wheels
#
# TORCH_INDEX and UV_DEFAULT_INDEX name mirrors; pip's own settings (PIP_*, pip.conf) hold too.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n 's/^# \{0,1\}//; 2,8p' "$0" >&2; exit 2; }
folder="${2:-docker/wheels}"
torch_index="${TORCH_INDEX-unset}"
settings="$(python3 docker/preset.py env "$1")" || exit 1
eval "$settings"
[ "$torch_index" = unset ] || TORCH_INDEX="$torch_index"

mkdir -p "$folder"
rm -f "$folder/SHA256SUMS"
# For the image's Python and Debian or Ubuntu, whatever runs here.
target=(--only-binary :all: --implementation cp --python-version "${PYTHON#python}" --dest "$folder")
for libc in 2_39 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do
    target+=(--platform "manylinux_${libc}_$(uname -m)")
done
for old in manylinux2014 manylinux2010 manylinux1; do target+=(--platform "${old}_$(uname -m)"); done
fetch() { python3 -m pip download --quiet --disable-pip-version-check "${target[@]}" "$@"; }
index=()
[ -z "${UV_DEFAULT_INDEX:-}" ] || index=(--index-url "$UV_DEFAULT_INDEX")

# shellcheck disable=SC2086  # lists of requirements, a word each
{
    echo "wheels: tools, numpy, scipy"
    fetch "${index[@]}" $TOOLS $NUMERIC
    echo "wheels: torch and what it needs"
    if [ -n "$TORCH_INDEX" ]; then
        fetch --index-url "$TORCH_INDEX" --extra-index-url "${UV_DEFAULT_INDEX:-https://pypi.org/simple}" \
            --find-links "$folder" $TORCH
    else
        fetch "${index[@]}" --find-links "$folder" $TORCH
    fi
    if [ -n "$TENSORRT" ]; then
        echo "wheels: TensorRT"
        fetch --extra-index-url "$TENSORRT_INDEX" $TENSORRT
    fi
    if [ -n "$PACKAGES" ]; then
        fetch "${index[@]}" $PACKAGES
    else
        for lock in ml-base web mlflow ocr ocr-paddle ocr-easyocr llm finetune; do
            echo "wheels: requirements/$lock.txt"
            # The locks are complete, and torch is here already.
            fetch "${index[@]}" --no-deps -r "requirements/$lock.txt"
        done
    fi
}
(cd "$folder" && sha256sum -- *.whl > SHA256SUMS)
echo "wheels: $(wc -l < "$folder/SHA256SUMS") in $folder, $(du -sh "$folder" | cut -f1)"
