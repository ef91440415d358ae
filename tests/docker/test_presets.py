"""Presets: what can't be built is refused before a build, with what would do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.environment import ROOT

SCRIPT = ROOT / "docker" / "preset.py"
spec = importlib.util.spec_from_file_location("docker_preset", SCRIPT)
preset = importlib.util.module_from_spec(spec)
# dataclasses look their module up there.
sys.modules[spec.name] = preset
spec.loader.exec_module(preset)

CPU, CUDA, OLD = "cpu-py311-torch2.13", "cuda12-py312-torch2.13", "ubuntu22.04-cuda11.8-torch2.1"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", preset.names())
def test_what_ships_can_be_built(name: str) -> None:
    assert preset.problems(preset.read(name)) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (CPU, {"torchvision": "0.27.0"}, "goes with torchvision 0.28.0"),
        (CPU, {"torch": "9.9.0"}, "is not known here"),
        (CPU, {"python": "3.10", "image": "python:3.10-slim-bookworm"}, "numpy 2.3.5 has wheels"),
        (CPU, {"numpy": "2.3.4"}, "in requirements/"),
        (CPU, {"image": "python:3.12-slim-bookworm"}, "does not bring Python 3.11"),
        (CPU, {"cuda": "12.6"}, "the image is python:3.11"),
        (CPU, {"torch_index": "https://download.pytorch.org/whl/cu126"}, "the one of cpu"),
        (CPU, {"tools": ["pip"]}, "pip is not pinned"),
        (CPU, {"packages": "whatever"}, "a list of pins"),
        (CPU, {"tensorrt": {"requirement": "tensorrt-cu12==10.0", "index": "x"}}, "needs CUDA"),
        (CUDA, {"cuda": "11.8"}, "is built for CUDA 12.6, 13.0"),
        (CUDA, {"os": "ubuntu22.04"}, "has Python 3.10, not 3.12"),
        (CUDA, {"os": "windows"}, "os is one of"),
        (
            CUDA,
            {"tensorrt": {"requirement": "tensorrt-cu13==11.0", "index": "x"}},
            "is not for CUDA 12",
        ),
        (OLD, {"numpy": "2.3.5"}, "numpy 2 breaks it"),
        (OLD, {"torchaudio": "2.2.0"}, "no torchaudio 2.2.0"),
        (OLD, {"packages": "lock"}, "let them agree"),
    ],
)
def test_impossible_combinations_are_refused(name: str, change: dict[str, Any], said: str) -> None:
    found = preset.problems(preset.read(name) | change)
    assert any(said in one for one in found), found


def test_missing_and_strange_fields_are_named() -> None:
    broken = preset.read(CPU)
    del broken["scipy"]
    found = preset.problems(broken | {"cudnn": "9"})
    assert found == [
        "scipy is missing or of the wrong kind.",
        "cudnn is not a field of presets.",
    ]


def test_build_arguments_are_shell_assignments() -> None:
    done = run("env", OLD)
    shown = subprocess.run(
        ["bash", "-c", f'{done.stdout}\necho "$KIND|$TORCH|$TENSORRT|$SERVICES|$PACKAGES"'],
        capture_output=True,
        text=True,
        check=True,
    )
    kind, torch, tensorrt, services, packages = shown.stdout.strip().split("|")
    assert (kind, tensorrt, services) == ("gpu", "tensorrt==8.6.1", "")
    assert torch == "torch==2.1.0 torchvision==0.16.0 torchaudio==2.1.0"
    assert "scikit-image==0.22.0" in packages


def test_a_wrong_name_lists_the_presets() -> None:
    done = run("env", "cpu-py39")
    assert done.returncode == 1 and CPU in done.stderr
    assert run("check").returncode == 0
    assert CUDA in run("list").stdout


def test_tags_tell_presets_apart() -> None:
    tags = [preset.read(name)["tag"] for name in preset.names()]
    assert len(set(tags)) == len(tags)


def test_no_dockerfile_names_a_version() -> None:
    """Versions are the presets' and the locks' alone."""
    files = sorted((ROOT / "docker").glob("Dockerfile.*"))
    assert len(files) >= 8
    for file in files:
        for line in file.read_text().splitlines():
            if not line.startswith("#"):
                assert not any(sign in line for sign in ("==1", "==2", ":3.", "python3.")), line


def test_presets_are_written_alike() -> None:
    for name in preset.names():
        text = (ROOT / "docker" / "presets" / f"{name}.json").read_text()
        assert text == json.dumps(json.loads(text), indent=2) + "\n"
