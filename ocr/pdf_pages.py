"""The pages of a PDF, drawn by pdfium one at a time, or taken as the text that they hold."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ocr.formats import BadDocument, Limits, check_count, pdf_refused
from ocr.page_image import PageImage
from ocr.page_source import BadPage, PageSource
from ocr.text_layer import TextLayer, read_layer

if TYPE_CHECKING:
    import pypdfium2 as pdfium

# Beyond this a side is useless for reading and breaks JPEG (65,535) and WebP (16,383) on the way.
_LONGEST_SIDE = 16_000

# pdfium keeps global state: two threads inside it at once corrupt each other's pages.
_PDFIUM = threading.Lock()


class PdfPages(PageSource):
    """`source` is a path, or the whole file. `dpi` is lowered for pages past `limits.max_pixels`.

    Raises BadDocument.
    """

    def __init__(self, source: Path | bytes, *, dpi: int, limits: Limits) -> None:
        import pypdfium2 as pdfium
        import pypdfium2.raw as raw

        self._dpi = dpi
        self._max_pixels = limits.max_pixels
        self._bytes = source  # pdfium reads from this memory as long as the document is open
        with _PDFIUM:
            # The raw call tells a document without pages from one that did not open, and leaks
            # neither; PdfDocument(path) reports both by an error code that may be a stale one.
            if isinstance(source, bytes):
                handle = raw.FPDF_LoadMemDocument64(source, len(source), None)
            else:
                handle = raw.FPDF_LoadDocument(os.fsencode(source), None)
            if not handle:
                raise pdf_refused(raw.FPDF_GetLastError())
            self._document = pdfium.PdfDocument(handle)
            with suppress(pdfium.PdfiumError):  # a form that is broken is left out
                self._document.init_forms()  # else what people filled in is not drawn
            self._pages = len(self._document)
        try:
            check_count(self._pages, limits)
        except BadDocument:
            self.close()
            raise

    def __len__(self) -> int:
        return self._pages

    def _render(self, index: int) -> PageImage:
        import pypdfium2 as pdfium

        # The page is closed before the lock is given up: memory stays that of one page.
        with _PDFIUM:
            page = self._page(index)
            try:
                scale = self._scale(page.get_width(), page.get_height())
                bitmap = page.render(scale=scale, rev_byteorder=True)
                image = bitmap.to_pil()
                bitmap.close()
            except (pdfium.PdfiumError, ArithmeticError, ValueError) as error:
                raise BadPage(f"Page {index + 1} of the PDF can't be drawn: {error}") from error
            finally:
                page.close()
        return PageImage(image, _dpi(scale))

    def _text_layer(self, index: int) -> TextLayer | None:
        import pypdfium2 as pdfium

        with _PDFIUM:
            page = self._page(index)
            try:
                if _merge_annotations(page):
                    page.close()
                    page = self._page(index)
                scale = self._scale(page.get_width(), page.get_height())
                return read_layer(page, scale, _dpi(scale))
            except (pdfium.PdfiumError, ArithmeticError, ValueError):
                return None  # drawing the page will say what is wrong with it
            finally:
                page.close()

    def _page(self, index: int) -> pdfium.PdfPage:
        import pypdfium2 as pdfium

        try:
            return self._document.get_page(index)
        except pdfium.PdfiumError as error:
            raise BadPage(f"Page {index + 1} of the PDF is damaged.") from error

    def _scale(self, width: float, height: float) -> float:
        """Pixels a point (1/72 inch) for a page of this size, within the pixel limit."""
        fits = math.sqrt(self._max_pixels / (width * height))
        scale = min(self._dpi / 72, fits, _LONGEST_SIDE / max(width, height))
        while math.ceil(width * scale) * math.ceil(height * scale) > self._max_pixels:
            scale *= 0.999
        return scale

    def close(self) -> None:
        with _PDFIUM:
            self._document.close()


def _merge_annotations(page: pdfium.PdfPage) -> bool:
    """Makes what was filled in, stamped or typed onto the page a part of it; True if it did.

    Else the page's text would lack what everybody sees. The file stays as it is.
    """
    import pypdfium2.raw as raw

    written = (raw.FPDF_ANNOT_WIDGET, raw.FPDF_ANNOT_FREETEXT, raw.FPDF_ANNOT_STAMP)
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if kind in written:
            # Merging writes a box onto the page, the size of a letter where the page's own is
            # inherited.
            box = page.get_bbox()
            page.set_mediabox(*box)
            page.set_cropbox(*box)
            done = raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
            return done == raw.FLATTEN_SUCCESS
    return False


def _dpi(scale: float) -> int:
    return max(1, round(scale * 72))
