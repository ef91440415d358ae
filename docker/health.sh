#!/bin/sh
# The images' health check: an address that answers, or a file that is touched again and again.
#
#   HEALTH_URL     asked, where it is set
#   ALIVE_FILE     else: must be younger than ALIVE_SECONDS (60)
set -eu

if [ -n "${HEALTH_URL:-}" ]; then
    exec python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$HEALTH_URL"
fi
[ -n "$(find "$ALIVE_FILE" -newermt "-${ALIVE_SECONDS:-60} seconds" 2> /dev/null)" ] || {
    echo "$ALIVE_FILE is older than ${ALIVE_SECONDS:-60} s or missing: the worker's rounds have stopped"
    exit 1
}
