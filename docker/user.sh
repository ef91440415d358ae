#!/bin/sh
# The user that every image runs as, and the places it may write; run once while a base is built.
set -eu

# Ubuntu's images have somebody with this id already.
other="$(getent passwd 1000 | cut -d: -f1)"
if [ -n "$other" ]; then userdel --remove "$other"; fi
groupadd --gid 1000 app
useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app
# A named volume takes over the owner of the folder that it is mounted on.
install -d -o 1000 -g 1000 /data /data/media /data/work /data/training /data/mlartifacts \
    /models /models/huggingface /models/paddlex
