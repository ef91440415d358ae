"""A sheet of paper to draw sample documents on, keeping count of the text that was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

INK = (28, 30, 36)


class Sheet:
    """A page being drawn from top to bottom; `lines` collects its text as it is drawn."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        margin: int,
        mode: str = "RGB",
        ink: tuple[int, int, int] | int = INK,
        font: Path | None = None,
    ) -> None:
        self.image = Image.new(mode, size, "white")
        self.draw = ImageDraw.Draw(self.image)
        self.lines: list[str] = []
        self.left, self.right = margin, size[0] - margin
        self.y = margin
        self._ink = ink
        self._font = font

    def line(
        self,
        text: str,
        size: int,
        *,
        align: str = "left",
        bold: bool = False,
        gap: int = 0,
        ink: tuple[int, int, int] | None = None,
    ) -> None:
        """One line across the sheet, and `gap` pixels under it."""
        anchor, x = {
            "left": ("ls", self.left),
            "center": ("ms", (self.left + self.right) // 2),
            "right": ("rs", self.right),
        }[align]
        self._put(x, text, size, anchor, bold=bold, ink=ink)
        self.lines.append(text)
        self.y += round(size * 1.25) + gap

    def row(
        self,
        cells: Sequence[tuple[int, str, str]],
        size: int,
        *,
        bold: bool = False,
        gap: int = 0,
    ) -> None:
        """Cells on one base line, each `(x, "ls" | "rs", text)`; one line of the truth."""
        for x, anchor, text in cells:
            self._put(x, text, size, anchor, bold=bold)
        self.lines.append(" ".join(text for _, _, text in cells if text))
        self.y += round(size * 1.25) + gap

    def paragraph(self, text: str, size: int, *, gap: int = 0, indent: int = 0) -> None:
        """Text set in lines as wide as the sheet."""
        font = _font(self._font, size)
        set_line = ""
        self.left += indent
        for word in text.split():
            longer = f"{set_line} {word}".lstrip()
            if font.getlength(longer) > self.right - self.left:
                self.line(set_line, size, gap=round(size * 0.2))
                longer = word
            set_line = longer
        self.line(set_line, size, gap=gap)
        self.left -= indent

    def rule(self, *, gap: int = 0, width: int = 2, dash: int = 0) -> None:
        """A line across the sheet, dashed where `dash` gives a length."""
        step = 2 * dash or self.right - self.left
        for x in range(self.left, self.right, step):
            end = min(x + (dash or step), self.right)
            self.draw.line([(x, self.y), (end, self.y)], fill=self._ink, width=width)
        self.y += gap

    def _put(
        self,
        x: int,
        text: str,
        size: int,
        anchor: str,
        *,
        bold: bool,
        ink: tuple[int, int, int] | None = None,
    ) -> None:
        self.draw.text(
            (x, self.y + size),
            text,
            font=_font(self._font, size),
            fill=ink or self._ink,
            anchor=anchor,
            # The built-in font has one weight; an outline of a fraction of a pixel makes the other.
            stroke_width=size / 64 if bold else 0,
        )


@cache
def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    # The other layout engine depends on a library of the system, and moves letters with it.
    basic = ImageFont.Layout.BASIC
    if path:
        return ImageFont.truetype(path, size, layout_engine=basic)
    return ImageFont.load_default(size).font_variant(layout_engine=basic)


def scanned(image: Image.Image, *, seed: int, tilt: float, paper: int, noise: int) -> Image.Image:
    """The page in gray as a scanner gives it: slightly turned, soft, grainy, not quite white."""
    gray = image.convert("L").rotate(tilt, Image.Resampling.BICUBIC, fillcolor="white")
    gray = gray.filter(ImageFilter.GaussianBlur(0.6)).point(lambda value: value * paper / 255)
    grain = Image.frombytes("L", gray.size, Random(seed).randbytes(gray.width * gray.height))
    grain = grain.point(lambda value: value * noise // 255)
    return ImageChops.add(gray, grain, offset=-noise // 2)
