"""Where a batch's results go: `<name>.txt` and so on, sub-folders mirrored, written whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from ocr import exports
from ocr.models import OcrJob

FORMATS = tuple(exports.FORMATS)
# What a folder is searched for; a file that is named itself is judged by its content alone.
SUFFIXES = frozenset(
    {
        *(".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".heic", ".heif"),
        *(".avif", ".jp2", ".j2k", ".gif", ".bmp"),
    }
)


@dataclass(frozen=True, slots=True)
class Target:
    """A file to read, and its outputs' path without the format's ending."""

    source: Path
    stem: Path

    def output(self, suffix: str) -> Path:
        """The path of the output with this ending; never the source's own."""
        path = self.stem.with_name(self.stem.name + suffix)
        if path.resolve() == self.source.resolve():
            return path.with_name(f"{self.stem.name}.ocr{suffix}")
        return path

    def complete(self, formats: Iterable[str]) -> bool:
        """Whether every output is there, and none is older than the source."""
        changed = self.source.stat().st_mtime
        return all(
            any(
                path.exists() and path.stat().st_mtime >= changed
                for path in map(self.output, exports.FORMATS[form].suffixes)
            )
            for form in formats
        )


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
    """Each output appears whole or not at all; of a document no page of which was read, none."""
    if not job.results.filter(error="").exists():
        return
    target.stem.parent.mkdir(parents=True, exist_ok=True)
    for form in formats:
        suffix, _media_type = exports.file_type(job, form)
        path = target.output(suffix)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                exports.write(job, form, file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
