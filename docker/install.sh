#!/bin/sh
# Installs Python packages into the image's environment while it is built; mounted, never shipped.
#
#   install.sh [--settled] [--index URL] PACKAGE|-r FILE ...
#
# --settled: of locks that are not today's, which a whole set of wheels has not; then nothing is done.
#
# /wheels decides where they come from:
#   SHA256SUMS and wheels   the whole set, made by docker/wheels.sh: checked, and no network asked
#   some wheels             those that fit are taken, the network has the rest
#   none                    the network
set -eu

if [ "${1:-}" = --settled ]; then
    shift
    if [ -s /wheels/SHA256SUMS ]; then exit; fi
fi
index=""
if [ "${1:-}" = --index ]; then
    index="$2"
    shift 2
fi

if [ -s /wheels/SHA256SUMS ]; then
    (cd /wheels && sha256sum --quiet -c SHA256SUMS)
    set -- --offline --no-index --find-links /wheels "$@"
else
    # Before the default index, but not in its place: what it lacks comes from there.
    if [ -n "$index" ]; then set -- --index "$index" "$@"; fi
    if ls /wheels/*.whl > /dev/null 2>&1; then set -- --find-links /wheels "$@"; fi
fi

# Certificates of the image's system count, a company's own among them. The cache is a mount, which
# links can't leave.
export UV_SYSTEM_CERTS=true UV_LINK_MODE=copy UV_CACHE_DIR=/root/.cache/uv UV_NO_PROGRESS=true
if [ -z "${UV_DEFAULT_INDEX:-}" ]; then unset UV_DEFAULT_INDEX; fi
before="$(mktemp)"
/opt/installer/bin/uv pip install --only-binary :all: "$@"
# A read-only root keeps no compiled module of its own, so what is new is compiled here. Some
# packages carry templates that are no Python.
new="$(mktemp)"
find "$VIRTUAL_ENV/lib" -name '*.py' -cnewer "$before" > "$new"
if [ -s "$new" ]; then
    "$VIRTUAL_ENV/bin/python" -W ignore -m compileall -qq -j 0 -i "$new" || true
fi
rm "$before" "$new"
