#!/usr/bin/env bash
# Redo the locks: constraints.txt from all roles together, then each role's .txt held to it.
#
#   requirements/compile.sh              after a change to an .in file: other versions stay
#   requirements/compile.sh NAME ...     let these packages move to their newest versions
#   requirements/compile.sh --upgrade    let every package move
set -euo pipefail
cd "$(dirname "$0")"

uv="${UV:-$(command -v uv || true)}"
[ -n "$uv" ] || uv=../.venv/bin/uv
[ -x "$uv" ] || { echo "compile.sh: needs uv: pip install uv, or UV=/path/to/uv" >&2; exit 1; }

work="$(mktemp -d)"

touch constraints.txt
cp constraints.txt "$work/before.txt"
keep=before
put_back() { # leave the constraints as they were, unless all went well
    [ "$keep" = new ] || cp "$work/before.txt" constraints.txt
    rm -rf "$work"
}
trap put_back EXIT

if [ "${1:-}" = --upgrade ]; then
    : > constraints.txt
else
    for name in "$@"; do
        sed -i "/^${name}\(\[.*\]\)\?==/d" constraints.txt
    done
fi

resolve() { # python version, .in file, output, further options
    local python="$1" source="$2" output="$3"
    shift 3
    "$uv" pip compile --quiet --python-version "$python" --overrides overrides.txt \
        --no-emit-index-url --no-emit-find-links \
        --custom-compile-command requirements/compile.sh \
        --output-file "$output" "$@" "$source" > /dev/null
}

resolve 3.11 all.in "$work/all.txt" --no-annotate
mv "$work/all.txt" constraints.txt

# 3.12 takes the very same pins; it may only need fewer.
resolve 3.12 all.in "$work/all312.txt" --no-annotate
extra="$(grep -vxFf constraints.txt "$work/all312.txt" | grep '==' || true)"
if [ -n "$extra" ]; then
    echo "compile.sh: on Python 3.12 these differ: $extra" >&2
    exit 1
fi

sed -n 's/^-r \(.*\)\.in$/\1/p' all.in | while read -r role; do
    resolve 3.11 "$role.in" "$work/role.txt"
    mv "$work/role.txt" "$role.txt"
    echo "$role.txt: $(grep -c '==' "$role.txt") packages"
done
keep=new
