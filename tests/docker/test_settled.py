"""The layer of settled locks lies below that of today's, for the same locks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.environment import ROOT

DOCKER = ROOT / "docker"
BOUND = re.compile(
    r"source=(docker/settled|requirements)/([\w-]+)\.txt,target=/locks/([\w-]+)\.txt"
)


def test_each_image_installs_the_settled_locks_first() -> None:
    found: dict[str, list[str]] = {}
    for file in sorted(DOCKER.glob("Dockerfile.*")):
        for folder, lock, target in BOUND.findall(file.read_text()):
            assert lock == target, file.name
            found.setdefault(f"{file.name} {folder}", []).append(lock)
    images = {name.split()[0] for name in found}
    assert {"Dockerfile.llm", "Dockerfile.ocr-cpu", "Dockerfile.web"} <= images
    used = set()
    for image in images:
        settled = found[f"{image} docker/settled"]
        assert settled == found[f"{image} requirements"], image
        text = (DOCKER / image).read_text()
        assert text.index("docker/settled/") < text.index("source=requirements/"), image
        used |= set(settled)
    assert used == {path.stem for path in (DOCKER / "settled").glob("*.txt")}


@pytest.mark.parametrize("whole", [True, False])
def test_a_whole_set_of_wheels_has_nothing_of_the_settled(tmp_path: Path, whole: bool) -> None:
    """With one, install.sh --settled ends at once; else it goes on to install."""
    script = (DOCKER / "install.sh").read_text()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    if whole:
        (wheels / "SHA256SUMS").write_text("0  made-up.whl\n")
    done = subprocess.run(
        ["sh", "-s", "--", "--settled", "-r", "/locks/none.txt"],
        input=script.replace("/wheels", str(wheels)).replace("/opt/installer", str(tmp_path)),
        env=os.environ | {"VIRTUAL_ENV": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if whole else 127), done.stderr
