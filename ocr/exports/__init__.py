"""A job's result in every form that people fetch: `write(job, form, target)`.

Each format is one module with `write(pages, target)`, which goes through the pages one by one, so
that a long document takes no more memory than a short one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ocr.exports import alto, hocr, json, markdown, page_xml, text, tsv
from ocr.exports.page import JobPages
from ocr.models import OcrJob


@dataclass(frozen=True, slots=True)
class Format:
    """`suffix` is what a file's name ends in; `many` is (suffix, media type) of several pages."""

    title: str
    suffix: str
    media_type: str
    write: Callable[[JobPages, BinaryIO], None]
    many: tuple[str, str] | None = None

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, self.many[0]) if self.many else (self.suffix,)


def _write_pdf(pages: JobPages, target: BinaryIO) -> None:
    # Its libraries take a third of a second and 30 MB, which a process that makes none is spared.
    from ocr.exports import pdf

    pdf.write(pages, target)


# By the name that `--formats` and `?format=` take.
FORMATS: dict[str, Format] = {
    "txt": Format("Text", ".txt", "text/plain; charset=utf-8", text.write),
    "json": Format("JSON", ".json", "application/json", json.write),
    "md": Format("Markdown", ".md", "text/markdown; charset=utf-8", markdown.write),
    "hocr": Format("hOCR", ".hocr", "application/xhtml+xml", hocr.write),
    "alto": Format("ALTO XML", ".alto.xml", "application/xml", alto.write),
    "page": Format(
        "PAGE XML",
        ".page.xml",
        "application/xml",
        page_xml.write,
        many=(".page.zip", "application/zip"),
    ),
    "pdf": Format("Searchable PDF", ".pdf", "application/pdf", _write_pdf),
    "tsv": Format("Table of lines", ".tsv", "text/tab-separated-values; charset=utf-8", tsv.write),
}


def file_type(job: OcrJob, form: str) -> tuple[str, str]:
    """(suffix, media type) of what `write` makes of this job."""
    chosen = FORMATS[form]
    if chosen.many and len(JobPages(job)) > 1:
        return chosen.many
    return chosen.suffix, chosen.media_type


def write(job: OcrJob, form: str, target: BinaryIO) -> None:
    """Writes the pages that the job has read to `target`, which needs no `seek`.

    `form` is a key of FORMATS. A page that could not be read is there, without text. `pdf` opens
    the document's file: it raises JobFailed if that is gone.
    """
    FORMATS[form].write(JobPages(job), target)
