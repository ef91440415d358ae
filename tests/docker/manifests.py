"""What docker/k8s builds, read once for all tests: a list of manifests for each overlay."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.environment import ROOT

K8S = ROOT / "docker" / "k8s"
# What the guide builds on an overlay, and an overlay with a component that none has.
SITE, POLICIES = "site", "policies"
OVERLAYS = ("cpu", "gpu", "dev", SITE, POLICIES)

spec = importlib.util.spec_from_file_location("k8s_validate", K8S / "validate.py")
validate = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = validate
spec.loader.exec_module(validate)

Manifest = dict[str, Any]


def guide(language: str) -> list[str]:
    """The code blocks of that language in docs/kubernetes.md."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@cache
def manifests(overlay: str) -> list[Manifest]:
    """Of an overlay, or of the site that the guide builds on one. Don't change them."""
    try:
        validate.kustomize()
    except validate.NoKustomize as error:
        pytest.skip(str(error))
    if overlay not in (SITE, POLICIES):
        return validate.build(K8S / "overlays" / overlay)
    (text,) = guide("yaml")
    if overlay == POLICIES:
        text = (
            "resources: [../docker/k8s/overlays/cpu]\ncomponents: [../docker/k8s/policies]\n"
            "namespace: mlops\n"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("k8s", "cerbos"):
            shutil.copytree(ROOT / "docker" / name, Path(folder) / "docker" / name)
        site = Path(folder) / SITE
        site.mkdir()
        (site / "kustomization.yaml").write_text(text)
        return validate.build(site)


def of_kind(overlay: str, *kinds: str) -> dict[str, Manifest]:
    """By name."""
    return {one["metadata"]["name"]: one for one in manifests(overlay) if one["kind"] in kinds}


def workloads(overlay: str) -> dict[str, Manifest]:
    return of_kind(overlay, "Deployment", "StatefulSet")


def pod(workload: Manifest) -> Manifest:
    return workload["spec"]["template"]["spec"]


def main(workload: Manifest) -> Manifest:
    (container,) = pod(workload)["containers"]
    return container


def containers(overlay: str) -> Iterator[tuple[str, Manifest]]:
    """(workload's name, container), those of the beginning too."""
    for name, workload in workloads(overlay).items():
        for container in (*pod(workload).get("initContainers", ()), *pod(workload)["containers"]):
            yield name, container


def environment(overlay: str, container: Manifest) -> dict[str, Any]:
    """Name -> value; a reference to a secret stands as it is."""
    found: dict[str, Any] = {}
    for source in container.get("envFrom", ()):
        found |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    for one in container.get("env", ()):
        found[one["name"]] = one["value"] if "value" in one else one["valueFrom"]["secretKeyRef"]
    return found


def selected(overlay: str, selector: Manifest) -> set[str]:
    """The workloads whose pods a label selector means."""

    def fits(labels: dict[str, str]) -> bool:
        wanted = selector.get("matchLabels", {})
        any_of = selector.get("matchExpressions", ())
        assert all(one["operator"] == "In" for one in any_of)
        return wanted.items() <= labels.items() and all(
            labels.get(one["key"]) in one["values"] for one in any_of
        )

    return {
        name
        for name, workload in workloads(overlay).items()
        if fits(workload["spec"]["template"]["metadata"]["labels"])
    }
