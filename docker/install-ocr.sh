#!/bin/sh
# The OCR engines' packages, by the locks in /locks; mounted beside install.sh, never shipped.
#
#   install-ocr.sh [--settled] [--gpu]
set -eu

settled="" gpu=""
for option in "$@"; do
    case "$option" in
        --settled) settled=--settled ;;
        --gpu) gpu=yes ;;
        *) exit 2 ;;
    esac
done
if [ -n "$settled" ] && [ -s /wheels/SHA256SUMS ]; then exit; fi

locks="$(mktemp -d)"
cp /locks/*.txt "$locks"
if [ -n "$gpu" ]; then sed -i 's/^onnxruntime==/onnxruntime-gpu==/' "$locks"/*.txt; fi
set --
for lock in "$locks"/*.txt; do set -- "$@" -r "$lock"; done
# Locks are complete; what they depend on by name would bring the CPU's onnxruntime back.
sh /install.sh --no-deps "$@"
# PaddleX asks for the contrib build of opencv by name, whose cv2 wants the libraries of a screen:
# the headless one of the same version is put back, and what only the other loads goes.
if ! python -c 'import cv2' 2> /dev/null; then
    sh /install.sh --reinstall --no-deps "$(grep '^opencv-python-headless==' /locks/ocr.txt)"
    rm -rf "$VIRTUAL_ENV"/lib/python*/site-packages/opencv_contrib_python.libs
    python -c 'import cv2'
fi
rm -rf "$locks"
