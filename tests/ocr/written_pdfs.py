"""PDFs with a text layer, written by pdfium itself: real fonts, real pictures, any direction."""

from __future__ import annotations

import ctypes
import io
import math
from pathlib import Path
from typing import Self

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image

INVISIBLE = 3


class WrittenPdf:
    """Pages in points, their origin at the bottom left, as PDF has them."""

    def __init__(self) -> None:
        self._document = pdfium.PdfDocument.new()
        self._fonts: dict[str, object] = {}
        self._page: pdfium.PdfPage | None = None

    def page(self, width: float = 595, height: float = 842, *, rotate: int = 0) -> Self:
        """A new page, on which what follows is put; `rotate` is its /Rotate."""
        self._written()
        self._page = self._document.new_page(width, height)
        self._page.set_rotation(rotate)
        return self

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        degrees: float = 0,
        font: str = "Helvetica",
        mode: int = 0,
    ) -> Self:
        """One run of text from (x, y) on, turned against the clock; `font` is a name or a file."""
        one = raw.FPDFPageObj_CreateTextObj(self._document, self._font(font), size)
        units = (text + "\0").encode("utf-16-le")
        buffer = (ctypes.c_ushort * (len(units) // 2)).from_buffer_copy(units)
        assert raw.FPDFText_SetText(one, buffer)
        raw.FPDFTextObj_SetTextRenderMode(one, mode)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        raw.FPDFPageObj_Transform(one, cos, sin, -sin, cos, x, y)
        raw.FPDFPage_InsertObject(self._page, one)
        return self

    def lines(self, texts: list[str], *, x: float = 72, y: float = 770, **how: object) -> Self:
        """A text a line, from the top down."""
        for number, text in enumerate(texts):
            self.text(x, y - 18 * number, text, **how)
        return self

    def picture(self, image: Image.Image, x: float, y: float, width: float, height: float) -> Self:
        """A JPEG of the image over the box whose bottom left is (x, y)."""
        content = io.BytesIO()
        image.convert("RGB").save(content, "JPEG", quality=85)
        content.seek(0)
        one = pdfium.PdfImage.new(self._document)
        one.load_jpeg(content, inline=True)
        one.set_matrix(pdfium.PdfMatrix(width, 0, 0, height, x, y))
        self._page.insert_obj(one)
        return self

    def shapes(self, count: int) -> Self:
        """So many small rectangles."""
        for number in range(count):
            one = raw.FPDFPageObj_CreateNewRect(50 + number % 50 * 10, 50 + number // 50 * 10, 6, 6)
            raw.FPDFPath_SetDrawMode(one, raw.FPDF_FILLMODE_ALTERNATE, True)
            raw.FPDFPage_InsertObject(self._page, one)
        return self

    def crop(self, left: float, bottom: float, right: float, top: float) -> Self:
        """What of the page is to be seen."""
        self._page.set_cropbox(left, bottom, right, top)
        return self

    def save(self, path: Path) -> Path:
        self._written()
        self._document.save(path)
        self._document.close()
        return path

    def _written(self) -> None:
        """Puts what was inserted into the page's own content."""
        if self._page is not None:
            self._page.gen_content()

    def _font(self, font: str) -> object:
        if font not in self._fonts:
            if Path(font).is_file():
                content = Path(font).read_bytes()
                data = (ctypes.c_ubyte * len(content)).from_buffer_copy(content)
                loaded = raw.FPDFText_LoadFont(
                    self._document, data, len(content), raw.FPDF_FONT_TRUETYPE, True
                )
            else:
                loaded = raw.FPDFText_LoadStandardFont(self._document, font.encode())
            assert loaded
            self._fonts[font] = loaded
        return self._fonts[font]
