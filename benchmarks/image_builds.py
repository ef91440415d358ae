"""Times of image builds with and without the shared base, sizes of layers, and of packages.

    .venv/bin/python benchmarks/image_builds.py --preset cpu-py311-torch2.13 --service llm

Builds in a copy of the tree, so that files can be changed; needs a docker engine. Wheels and
packages of the system come from the builder's cache in every case: what differs is what must be
installed anew. WHEELS, TORCH_INDEX and UV_DEFAULT_INDEX hold, as for docker/images.sh.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("docker", "requirements", "templates", "mlops", "ocr", "llm", "finetune")
FILES = ("manage.py", "gunicorn.conf.py", ".dockerignore")
TAG = "measured"
# A small package that no lock has.
CHANGE = "cowsay==6.1\n"

# One image by itself, as it would be without a base: everything in one list of requirements.
ALONE = """
ARG UPSTREAM
FROM ${{UPSTREAM}} AS build
ARG PYTHON
ARG UV_DEFAULT_INDEX
ENV VIRTUAL_ENV=/opt/venv
RUN ${{PYTHON}} -m venv --without-pip /opt/venv
ARG NUMERIC
ARG TORCH
ARG TORCH_INDEX
RUN --mount=type=cache,target=/root/.cache/uv \\
    --mount=type=bind,from=wheels,target=/wheels \\
    --mount=type=bind,from=tools,source=/opt/installer,target=/opt/installer \\
    --mount=type=bind,source=docker/install.sh,target=/install.sh \\
    --mount=type=bind,source=requirements/ml-base.txt,target=/locks/ml-base.txt \\
    --mount=type=bind,source=requirements/{lock}.txt,target=/locks/lock.txt \\
    sh /install.sh --index "${{TORCH_INDEX}}" ${{NUMERIC}} ${{TORCH}} \\
    -r /locks/ml-base.txt -r /locks/lock.txt
FROM ${{UPSTREAM}}
RUN --mount=type=bind,source=docker/user.sh,target=/user.sh sh /user.sh
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY manage.py gunicorn.conf.py ./
COPY templates templates
COPY mlops mlops
COPY ocr ocr
COPY llm llm
COPY finetune finetune
"""


class Tree:
    """A copy of what builds read, and builds in it."""

    def __init__(self, folder: Path, preset: str, service: str) -> None:
        self.folder, self.preset, self.service = folder, preset, service
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "*.whl")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        self.lock = {"train": "finetune", "ocr-cpu": "ocr"}.get(service, service)
        (folder / "docker" / "Dockerfile.alone").write_text(ALONE.format(lock=self.lock))
        bake = folder / "docker" / "docker-bake.hcl"
        bake.write_text(
            bake.read_text()
            + """
target "alone" {
  inherits   = ["_slim"]
  dockerfile = "docker/Dockerfile.alone"
  args       = { NUMERIC = NUMERIC, TORCH = TORCH, TORCH_INDEX = TORCH_INDEX }
  tags       = tags("alone")
}
"""
        )
        images = folder / "docker" / "images.sh"
        images.write_text(
            images.read_text().replace("train web mlflow)", "train web mlflow alone)")
        )

    def build(self, *arguments: str) -> float:
        """Seconds of docker/images.sh with these arguments."""
        started = time.perf_counter()
        done = subprocess.run(
            ["bash", "docker/images.sh", *arguments],
            cwd=self.folder,
            env={**os.environ, "TAG": TAG},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return time.perf_counter() - started

    def change_source(self) -> None:
        with (self.folder / "llm" / "apps.py").open("a") as file:
            file.write(f"# changed at {time.time()}\n")

    def change_requirement(self) -> None:
        path = self.folder / "requirements" / f"{self.lock}.txt"
        path.write_text(path.read_text() + CHANGE)

    def restore_requirement(self) -> None:
        path = self.folder / "requirements" / f"{self.lock}.txt"
        path.write_text(path.read_text().replace(CHANGE, ""))


def measure(tree: Tree) -> dict[str, dict[str, float]]:
    """Seconds by case, for the service on the base and for the same image alone."""
    cold = ("--", "--no-cache")
    found: dict[str, dict[str, float]] = {}

    def note(what: str, name: str, seconds: float) -> None:
        found.setdefault(what, {})[name] = seconds
        print(f"{what:<28}{name:<10}{seconds:8.1f} s", flush=True)

    preset, service = tree.preset, tree.service
    note("the base, once", "base", tree.build("base", preset))
    for name, target in (("on base", service), ("alone", "alone")):
        note("nothing cached", name, tree.build("build", preset, target, *cold))
        note("nothing changed", name, tree.build("build", preset, target))
        tree.change_source()
        note("a source file changed", name, tree.build("build", preset, target))
        tree.change_requirement()
        note("a requirement added", name, tree.build("build", preset, target))
        tree.restore_requirement()
    return found


def size(image: str) -> int:
    """Bytes of all layers together, unpacked."""
    show = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.check_output(show, text=True))


PACKAGES = """
import importlib.metadata as m, json
sizes = {}
for one in m.distributions():
    files = [one.locate_file(file) for file in one.files or []]
    size = sum(file.stat().st_size for file in files if file.exists())
    sizes[one.metadata["Name"] + " " + one.version] = size
print(json.dumps(sizes))
"""


def packages(image: str) -> dict[str, int]:
    """Bytes of each package in the image, as its record lists them, the largest first."""
    command = ["docker", "run", "--rm", "--entrypoint", "python", image, "-c", PACKAGES]
    sizes = json.loads(subprocess.check_output(command, text=True))
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="cpu-py311-torch2.13")
    parser.add_argument("--service", default="llm", choices=("llm", "train", "ocr-cpu"))
    parser.add_argument("--json", type=Path, help="all figures, every package included")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="image-builds-") as folder:
        tree = Tree(Path(folder) / "tree", options.preset, options.service)
        times = measure(tree)
    tag = re.search(r'"tag": "(\S+)"', (ROOT / f"docker/presets/{options.preset}.json").read_text())
    base, service = (
        size(f"{name}:{TAG}-{tag.group(1)}") for name in ("backend-ml-base", options.service)
    )
    own = service - base
    print(f"\nlayers: {base / 1e6:.0f} MB shared, {own / 1e6:.0f} MB of {options.service}'s own")
    found = packages(f"{options.service}:{TAG}-{tag.group(1)}")
    for name, weight in list(found.items())[:15]:
        print(f"{name:<40}{weight / 1e6:8.1f} MB")
    rebuild = times["a source file changed"]["on base"] / times["nothing cached"]["alone"]
    print(f"\na source change on the base costs {rebuild:.1%} of the image without one")
    if options.json:
        options.json.write_text(json.dumps({"seconds": times, "packages": found}, indent=2))


if __name__ == "__main__":
    main()
