#!/usr/bin/env python3
"""Reads a preset of docker/presets, refuses what can't be built, and says it as build arguments.

    preset.py list             every preset and what it is for
    preset.py check [NAME ...] all of them, or these
    preset.py env NAME         shell assignments for docker-bake.hcl

Needs nothing but Python, so that it runs on any build host.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PRESETS = ROOT / "docker" / "presets"
REQUIREMENTS = ROOT / "requirements"

FIELDS = {
    "about": str,
    "tag": str,
    "image": str,
    "os": str,
    "python": str,
    "cuda": (str, type(None)),
    "torch": str,
    "torchvision": str,
    "torchaudio": (str, type(None)),
    "torch_index": str,
    "tensorrt": (dict, type(None)),
    "numpy": str,
    "scipy": str,
    "packages": (str, list),
    "tools": list,
}


@dataclass(frozen=True, slots=True)
class Release:
    """What one torch release goes with, as its publishers state it."""

    torchvision: str
    torchaudio: str | None
    pythons: tuple[str, ...]
    cudas: tuple[str, ...]
    numpy_2: bool = True


# By the first two numbers of torch; torchvision's patch number follows torch's.
TORCH = {
    "2.1": Release("0.16", "2.1", ("3.8", "3.9", "3.10", "3.11"), ("11.8", "12.1"), numpy_2=False),
    "2.13": Release("0.28", None, ("3.10", "3.11", "3.12", "3.13", "3.14"), ("12.6", "13.0")),
}
# Pythons whose wheels a library's release series has.
NUMPY = {
    "1.23": ("3.8", "3.9", "3.10", "3.11"),
    "1.26": ("3.9", "3.10", "3.11", "3.12"),
    "2.3": ("3.11", "3.12", "3.13", "3.14"),
}
SCIPY = {
    "1.11": ("3.9", "3.10", "3.11", "3.12"),
    "1.17": ("3.11", "3.12", "3.13", "3.14"),
}
# The Python that each system's own packages have; an image named python:… brings its own.
SYSTEM_PYTHON = {"ubuntu22.04": "3.10", "ubuntu24.04": "3.12", "debian12": "3.11"}
# What the platform itself runs on. A preset with another Python builds a base alone.
PLATFORM_PYTHONS = ("3.11", "3.12")


def names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    """Raises ValueError with the list of presets where there is none of this name."""
    path = PRESETS / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"There is no preset {name!r}. Choose one of: {', '.join(names())}.")
    return json.loads(path.read_text())


def problems(preset: dict[str, Any]) -> list[str]:
    """Why this combination can't be built; empty if it can. Each says what would do."""
    found = [
        f"{field} is missing or of the wrong kind."
        for field, kind in FIELDS.items()
        if field not in preset or not isinstance(preset[field], kind)
    ]
    found += [f"{field} is not a field of presets." for field in preset.keys() - FIELDS.keys()]
    if found:
        return found
    return [*_torch(preset), *_numeric(preset), *_system(preset), *_tensorrt(preset)]


def _torch(preset: dict[str, Any]) -> list[str]:
    torch, python, cuda = preset["torch"], preset["python"], preset["cuda"]
    series, _dot, patch = torch.rpartition(".")
    release = TORCH.get(series)
    if release is None:
        return [f"torch {torch} is not known here. Add its release to TORCH in docker/preset.py."]
    found = []
    if preset["torchvision"] != f"{release.torchvision}.{patch}":
        found.append(f"torch {torch} goes with torchvision {release.torchvision}.{patch}.")
    audio = preset["torchaudio"]
    if audio and audio != (release.torchaudio and f"{release.torchaudio}.{patch}"):
        found.append(f"torch {torch} has no torchaudio {audio} beside it.")
    if python not in release.pythons:
        found.append(f"torch {torch} is built for Python {', '.join(release.pythons)}.")
    if cuda is not None and cuda not in release.cudas:
        found.append(f"torch {torch} is built for CUDA {', '.join(release.cudas)}, not {cuda}.")
    build = "cpu" if cuda is None else "cu" + cuda.replace(".", "")
    if preset["torch_index"].rstrip("/").rpartition("/")[2] != build:
        found.append(f"torch_index must be the one of {build}, else another build comes in.")
    if not release.numpy_2 and not preset["numpy"].startswith("1."):
        found.append(f"torch {torch} was built against numpy 1; numpy 2 breaks it.")
    return found


def _numeric(preset: dict[str, Any]) -> list[str]:
    found = []
    for name, table in (("numpy", NUMPY), ("scipy", SCIPY)):
        pythons = table.get(preset[name].rpartition(".")[0])
        if pythons is None:
            found.append(
                f"{name} {preset[name]} is not known here. Add it to {name.upper()} "
                "in docker/preset.py."
            )
        elif preset["python"] not in pythons:
            found.append(f"{name} {preset[name]} has wheels for Python {', '.join(pythons)}.")
    if preset["packages"] == "lock":
        found += [
            f"{name} is {preset[name]} here and {locked} in requirements/: let them agree."
            for name, locked in _locked().items()
            if preset[name] != locked
        ]
        if preset["python"] not in PLATFORM_PYTHONS:
            found.append(f"The locks are for Python {' and '.join(PLATFORM_PYTHONS)}.")
    elif isinstance(preset["packages"], str):
        found.append('packages is "lock" or a list of pins.')
    pins = [*preset["tools"], *(preset["packages"] if preset["packages"] != "lock" else [])]
    found += [f"{pin} is not pinned: write name==version." for pin in pins if "==" not in pin]
    return found


def _system(preset: dict[str, Any]) -> list[str]:
    image, system, python = preset["image"], preset["os"], preset["python"]
    if system not in SYSTEM_PYTHON:
        return [f"os is one of: {', '.join(SYSTEM_PYTHON)}."]
    found = []
    if image.startswith("python:"):
        if not re.match(rf"python:{re.escape(python)}[-.]", image):
            found.append(f"{image} does not bring Python {python}.")
    elif SYSTEM_PYTHON[system] != python:
        found.append(f"{system} has Python {SYSTEM_PYTHON[system]}, not {python}.")
    cuda = re.match(r"nvidia/cuda:(\d+\.\d+)\.", image)
    if (cuda.group(1) if cuda else None) != preset["cuda"]:
        found.append(f"cuda is {preset['cuda']}, but the image is {image}.")
    if cuda and not image.endswith(system):
        found.append(f"os is {system}, but the image is {image}.")
    return found


def _tensorrt(preset: dict[str, Any]) -> list[str]:
    tensorrt = preset["tensorrt"]
    if tensorrt is None:
        return []
    if preset["cuda"] is None:
        return ["TensorRT needs CUDA: take it out, or choose a CUDA preset."]
    if set(tensorrt) != {"requirement", "index"} or "==" not in tensorrt["requirement"]:
        return ['tensorrt is {"requirement": "name==version", "index": "https://…"}.']
    major = preset["cuda"].partition(".")[0]
    built_for = re.match(r"tensorrt-cu(\d+)==", tensorrt["requirement"])
    if built_for and built_for.group(1) != major:
        return [f"{tensorrt['requirement']} is not for CUDA {major}."]
    return []


def _locked() -> dict[str, str]:
    """The versions that the locks and torch.txt name."""
    texts = "\n".join(
        (REQUIREMENTS / name).read_text()
        for name in ("constraints.txt", "torch.txt", "ocr-easyocr.in")
    )
    return {
        name: re.search(rf"^{name}==(\S+)$", texts, re.MULTILINE).group(1)
        for name in ("numpy", "scipy", "torch", "torchvision")
    }


def build_arguments(name: str, preset: dict[str, Any]) -> dict[str, str]:
    """The variables of docker-bake.hcl that the preset decides."""
    family = [f"torch=={preset['torch']}", f"torchvision=={preset['torchvision']}"]
    if preset["torchaudio"]:
        family.append(f"torchaudio=={preset['torchaudio']}")
    tensorrt = preset["tensorrt"] or {"requirement": "", "index": ""}
    locked = preset["packages"] == "lock"
    return {
        "PRESET": name,
        "PRESET_TAG": preset["tag"],
        "KIND": "cpu" if preset["cuda"] is None else "gpu",
        "UPSTREAM": preset["image"],
        "PYTHON": f"python{preset['python']}",
        "TOOLS": " ".join(preset["tools"]),
        "NUMERIC": f"numpy=={preset['numpy']} scipy=={preset['scipy']}",
        "TORCH": " ".join(family),
        "TORCH_INDEX": preset["torch_index"],
        "TENSORRT": tensorrt["requirement"],
        "TENSORRT_INDEX": tensorrt["index"],
        # Where a preset has pins of its own, the services' locks don't fit on its base.
        "PACKAGES": "" if locked else " ".join(preset["packages"]),
        "SERVICES": "yes" if locked else "",
    }


def main(arguments: list[str]) -> int:
    command, *rest = arguments or ["help"]
    try:
        if command == "list":
            for name in names():
                sys.stdout.write(f"{name:<34}{read(name)['about']}\n")
        elif command == "check":
            wrong = {name: problems(read(name)) for name in rest or names()}
            for name, found in wrong.items():
                sys.stdout.write("".join(f"{name}: {one}\n" for one in found))
            return int(any(wrong.values()))
        elif command == "env" and len(rest) == 1:
            preset = read(rest[0])
            if found := problems(preset):
                raise ValueError("\n".join(f"{rest[0]}: {one}" for one in found))
            for name, value in build_arguments(rest[0], preset).items():
                sys.stdout.write(f"{name}={shlex.quote(value)}\n")
        else:
            sys.stderr.write(__doc__ or "")
            return 2
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
