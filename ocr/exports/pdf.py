"""pdf: the document with its text on top, unseen, to be found, selected and copied.

A PDF stays what it was: the text is put under its pages as they are, and a page whose own text
was taken is not touched. Images become pages with their own bytes. The whole is PDF/A-2b where it
can be: what does not pass pikepdf's check is written as it is, without the claim.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import pikepdf
import structlog
from pikepdf import Name, Page, Pdf, pdfa

from ocr.exports.page import JobPages, PageText
from ocr.exports.pdf_font import HiddenFont
from ocr.exports.pdf_graft import drop_hidden_text, visible_text
from ocr.exports.pdf_images import ImageBook
from ocr.exports.pdf_text import FONT, Sheet, text_layer
from ocr.formats import PDF
from ocr.pages import open_pages
from ocr.reader import TEXT_LAYER
from ocr.runner import limits, local_copy

log = structlog.get_logger(__name__)

# What is raised where the objects of a broken PDF are not what their names say.
_MALFORMED = (
    *(pikepdf.PdfError, ValueError, TypeError),
    *(LookupError, AttributeError, ArithmeticError),
)
_FLAVOUR = "2b"
# A page that draws more text than this share of what was read on it, is drawn as an image: else
# the text that the reader was told to mistrust would be found beside the one that was read.
_DOUBLED = 0.2


def write(pages: JobPages, target: BinaryIO) -> None:
    """Raises JobFailed if the document's file is gone."""
    with TemporaryDirectory(prefix="ocr-pdf-") as name, local_copy(pages.job.document) as path:
        folder = Path(name)
        graft = pages.job.document.media_type == PDF.media_type
        try:
            made = _saved(pages, path, folder, graft=graft)
        except _MALFORMED as error:
            if not graft:
                raise
            log.info("pdf_drawn_anew", job=str(pages.job.pk), reason=str(error))
            made = _saved(pages, path, folder, graft=False)
        with made.open("rb") as file:
            shutil.copyfileobj(file, target)


def _saved(pages: JobPages, path: Path, folder: Path, *, graft: bool) -> Path:
    out = folder / "out.pdf"
    try:
        with _assembled(pages, path, folder, graft=graft) as pdf:
            pdfa.save(pdf, out, _FLAVOUR)
    except pdfa.PdfaError as error:
        log.info("pdf_not_archival", job=str(pages.job.pk), reason=_reason(error))
        with _assembled(pages, path, folder, graft=graft) as pdf:
            pdf.save(out)
    return out


@contextmanager
def _assembled(pages: JobPages, path: Path, folder: Path, *, graft: bool) -> Iterator[Pdf]:
    """The pages that were read, with their text, ready to be saved while this is open.

    With `graft` they are those of the PDF itself, else made of images.
    """
    with (
        Pdf.open(path) if graft else Pdf.new() as pdf,
        open_pages(path, dpi=pages.job.dpi, limits=limits()) as source,
        TemporaryDirectory(dir=folder) as parts,
        ImageBook(Path(parts), source, path) as book,
    ):
        if graft and len(pdf.pages) != pages.job.document.page_count:
            raise pikepdf.PdfError(f"qpdf sees {len(pdf.pages)} pages")
        for page in pages:
            if not graft or _doubled(pdf.pages[page.number - 1], page):
                book.add(page)
        if graft:
            for number, page in book.pages().items():
                pdf.pages[number - 1] = page
        else:
            pdf.pages.extend(book.pages().values())
            with pdf.open_metadata() as metadata:
                metadata["dc:title"] = pages.job.document.name
        _lay_text(pdf, pages, graft=graft)
        yield pdf


def _doubled(sheet: Page, page: PageText) -> bool:
    if page.engine == TEXT_LAYER or not page.text:
        return False
    return visible_text(sheet) > _DOUBLED * len(page.text)


def _lay_text(pdf: Pdf, pages: JobPages, *, graft: bool) -> None:
    """Puts each page's text under it, and drops the pages of the PDF that were not read."""
    font = HiddenFont(pdf)
    done = set()
    for place, page in enumerate(pages):
        index = page.number - 1 if graft else place
        done.add(index)
        sheet = pdf.pages[index]
        if page.rotation:
            sheet.rotate(page.rotation, relative=True)
        if page.lines and page.engine != TEXT_LAYER:
            _lay(pdf, sheet, page, font)
    font.finish()
    for index in reversed(range(len(pdf.pages))):
        if index not in done:
            del pdf.pages[index]


def _lay(pdf: Pdf, sheet: Page, page: PageText, font: HiddenFont) -> None:
    drop_hidden_text(sheet, pdf)
    layer = text_layer(page, _sheet(sheet), font)
    sheet.add_resource(font.reference, Name.Font, Name(FONT.decode()))
    # In front of what is there, where the graphics state is still as it should be.
    sheet.contents_add(layer, prepend=True)


def _sheet(page: Page) -> Sheet:
    """What is seen of a page: its crop box, as far as that lies on its media box."""
    left, bottom, right, top = (float(side) for side in page.cropbox)
    paper = [float(side) for side in page.mediabox]
    box = (
        *(max(min(left, right), min(paper[0], paper[2])), max(min(bottom, top), min(paper[1::2]))),
        *(min(max(left, right), max(paper[0], paper[2])), min(max(bottom, top), max(paper[1::2]))),
    )
    return Sheet(box, int(page.obj.get(Name.Rotate, 0)) % 360)


def _reason(error: pdfa.PdfaError) -> str:
    """The first few faults, which say what kind of a document this is."""
    return "; ".join(dict.fromkeys(finding.message for finding in error.report.findings[:20]))[:500]
