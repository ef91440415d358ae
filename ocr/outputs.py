"""Where a batch's results go: `<name>.txt` and so on, sub-folders mirrored, written whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from ocr.models import OcrJob
from ocr.results import job_json, job_text, to_json

FORMATS = ("txt", "json")
# What a folder is searched for; a file that is named itself is judged by its content alone.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".pdf"})


@dataclass(frozen=True, slots=True)
class Target:
    """A file to read, and its outputs' path without the format's ending."""

    source: Path
    stem: Path

    def output(self, form: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}.{form}")

    def complete(self, formats: Iterable[str]) -> bool:
        """Whether every output is there, and none is older than the source."""
        changed = self.source.stat().st_mtime
        outputs = [self.output(form) for form in formats]
        return all(path.exists() and path.stat().st_mtime >= changed for path in outputs)


def find_targets(paths: Iterable[str], out: Path) -> list[Target]:
    """Files, folders and globs -> files, each once, in a stable order.

    Raises FileNotFoundError for a path that matches nothing. Two sources that would write one
    output keep their endings: `a.png.txt` beside `a.jpg.txt`.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for source, relative in _expand(path):
            found.setdefault(source.resolve(), relative)
    stems = Counter(relative.with_suffix("") for relative in found.values())
    targets = []
    for source, relative in found.items():
        bare = relative.with_suffix("")
        targets.append(Target(source, out / (bare if stems[bare] == 1 else relative)))
    return targets


def _expand(path: str) -> Iterable[tuple[Path, Path]]:
    given = Path(path)
    if given.is_dir():
        for source in sorted(given.rglob("*")):
            relative = source.relative_to(given)
            hidden = any(part.startswith(".") for part in relative.parts)
            if source.suffix.lower() in SUFFIXES and source.is_file() and not hidden:
                yield source, relative
    elif given.exists():
        yield given, Path(given.name)
    elif matches := sorted(glob(path, recursive=True)):  # noqa: PTH207  (takes absolute patterns)
        for match in matches:
            yield from _expand(match)
    else:
        raise FileNotFoundError(f"{path}: there is no such file or folder")


def write_outputs(job: OcrJob, target: Target, formats: Iterable[str]) -> None:
    """Each output appears whole or not at all."""
    results = list(job.results.select_related("page").order_by("page__number"))
    if all(result.error for result in results):
        return
    target.stem.parent.mkdir(parents=True, exist_ok=True)
    for form in formats:
        text = job_text(results) if form == "txt" else to_json(job_json(job, results))
        path = target.output(form)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
