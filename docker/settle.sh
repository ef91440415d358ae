#!/usr/bin/env bash
# Makes the locks of today the settled ones: images install those as a layer of their own, and what
# has moved since as a small one on top. Every service is built anew after it; a release is the time.
#
#   settle.sh            copies requirements/*.txt to docker/settled
set -euo pipefail
cd "$(dirname "$0")/.."
for lock in docker/settled/*.txt; do
    cp "requirements/$(basename "$lock")" "$lock"
done
git status --short docker/settled
