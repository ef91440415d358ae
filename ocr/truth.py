"""The truth of a folder: each document's text in a file beside it, under the same name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlops.exceptions import ApplicationError
from ocr.formats import Limits
from ocr.outputs import SUFFIXES
from ocr.pages import inspect

PAGE_BREAK = "\f"
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Truth:
    """A document and its text: of each page, or, in one piece, of all pages together.

    `name` is the document's path below the folder.
    """

    name: str
    source: Path
    pages: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return len(self.pages) == 1


def find_truth(folder: Path, *, suffix: str, limits: Limits) -> tuple[list[Truth], list[str]]:
    """The folder's documents that have a truth, sorted, and the names of those that have none.

    The truth of `scan.png` is `scan.txt` (or `scan.png.txt`) for the suffix ".txt": UTF-8, a form
    feed between two pages. Raises ApplicationError where there is no truth, where one has no
    document, and where the number of pages differs.
    """
    if not folder.is_dir():
        raise ApplicationError(
            f"{folder} is not a folder. Give one that holds documents with their texts beside them."
        )
    files = sorted(_visible_files(folder))
    texts = {path for path in files if path.name.endswith(suffix)}
    documents = [path for path in files if path.suffix.lower() in SUFFIXES and path not in texts]
    found = {path: _text_of(path, suffix, texts) for path in documents}
    names = {path: str(path.relative_to(folder)) for path in files}
    orphans = texts - set(found.values())
    if not texts or not documents:
        raise ApplicationError(
            f"No {'documents' if texts else 'truth'} in {folder}. Put the text of each document "
            f"beside it, under the same name: scan.png and scan{suffix}. Name another ending with "
            "--truth-suffix."
        )
    if orphans:
        raise ApplicationError(
            f"{_shown(names[path] for path in orphans)}: no document of that name stands beside "
            f"the text. Add it ({', '.join(sorted(SUFFIXES))}), or move the text out of the folder."
        )
    truths = [
        Truth(names[path], path, _pages(path, text, limits)) for path, text in found.items() if text
    ]
    return truths, [names[path] for path, text in found.items() if text is None]


def _visible_files(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _text_of(document: Path, suffix: str, texts: set[Path]) -> Path | None:
    names = (document.name + suffix, document.stem + suffix)
    return next((path for name in names if (path := document.with_name(name)) in texts), None)


def _pages(document: Path, text: Path, limits: Limits) -> tuple[str, ...]:
    try:
        # Some tools end each page with a form feed, the last one too.
        content = text.read_text(encoding="utf-8-sig").rstrip().removesuffix(PAGE_BREAK)
    except UnicodeDecodeError as error:
        raise ApplicationError(
            f"{text} is not UTF-8 ({error}). Convert it, and try again."
        ) from error
    pages = tuple(content.split(PAGE_BREAK))
    if len(pages) > 1:
        count = inspect(document, limits=limits).pages
        if count != len(pages):
            raise ApplicationError(
                f"{text} has {len(pages)} pages (a form feed stands between two), {document.name} "
                f"has {count}. Give the text of each page, or one without form feeds for all."
            )
    return pages


def _shown(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
