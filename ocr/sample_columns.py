"""Magazine pages drawn from scratch, with their text in the order in which it is to be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ocr.sample_sheet import INK, scanned
from ocr.sample_texts import WORDS

_FAINT = (120, 124, 132)
_LEADING = 1.28
_SMALL_WORDS = ("the", "a", "of", "and", "in", "with", "under", "near", "for", "from", "between")
_VERBS = ("keeps", "found", "carried", "left", "mended", "painted", "sold", "opened", "watched")


@dataclass(frozen=True, slots=True)
class PageStyle:
    """What a magazine page looks like; sizes in pixels of a page of 1240 by 1754.

    `sections`: how many columns each part of the page has, from the top. `headlines`: across the
    columns of each part. `picture`: how many columns one spans at the head of the last part, its
    caption under it (0: none). `tilt` in degrees, counterclockwise.
    """

    sections: tuple[int, ...] = (2,)
    body: int = 21
    gutter: int = 34
    justified: bool = False
    headlines: bool = True
    picture: int = 0
    small_pictures: bool = False
    subheads: bool = True
    quotes: bool = False
    drop_cap: bool = False
    running_head: bool = True
    tilt: float = 0.0
    noise: int = 16
    jpeg: int = 0


STYLES: dict[str, PageStyle] = {
    "two-ragged": PageStyle(tilt=0.4),
    "two-justified": PageStyle(justified=True, gutter=26, picture=2, jpeg=60),
    "two-skewed": PageStyle(tilt=1.5, small_pictures=True),
    "three-ragged": PageStyle((3,), body=19, gutter=28, small_pictures=True, tilt=-0.5),
    "three-justified": PageStyle((3,), body=18, gutter=22, justified=True, picture=2, quotes=True),
    "three-skewed": PageStyle((3,), body=18, gutter=30, justified=True, tilt=-1.5, picture=3),
    "two-over-three": PageStyle((2, 3), body=18, drop_cap=True, small_pictures=True),
    "one-over-two": PageStyle((1, 2), body=20, picture=1, drop_cap=True, tilt=-0.3, jpeg=50),
    "two-over-two": PageStyle((2, 2), body=19, gutter=24, justified=True, quotes=True),
    "no-headline": PageStyle((3,), body=19, headlines=False, subheads=False, running_head=False),
}


@dataclass(frozen=True, slots=True)
class ColumnsPage:
    """A page in gray, and its text, a printed line a line."""

    image: Image.Image
    truth: str


@dataclass(slots=True)
class _Frame:
    """A column, or a part of one, that text flows into."""

    left: int
    right: int
    y: int
    bottom: int
    texts: list[str] = field(default_factory=list)


def columns_page(style: PageStyle, seed: int = 0, *, font: Path | None = None) -> ColumnsPage:
    """Draw one page; the same style, seed and font give the same page on every machine.

    `font`: a file in place of Pillow's own, for other shapes of letters.
    """
    press = _Press(style, Random(seed), font)
    press.print_page()
    image = scanned(press.image, seed=seed, tilt=style.tilt, paper=246, noise=style.noise)
    if style.jpeg:
        target = BytesIO()
        image.save(target, "JPEG", quality=style.jpeg)
        image = Image.open(target)
        image.load()
    return ColumnsPage(image, "\n".join(press.texts))


class _Press:
    """One page being set from the top to the bottom; `texts` collects it in reading order."""

    width, height, margin = 1240, 1754, 90

    def __init__(self, style: PageStyle, random: Random, font: Path | None) -> None:
        self.style, self.random, self.font = style, random, font
        self.image = Image.new("RGB", (self.width, self.height), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.texts: list[str] = []

    def print_page(self) -> None:
        top, bottom = self.margin, self.height - self.margin
        if self.style.running_head:
            top += 2 * self._running_head(top)
            bottom -= 50
        share = (bottom - top) // len(self.style.sections)
        for number, columns in enumerate(self.style.sections):
            last = number == len(self.style.sections) - 1
            self._section(columns, top + number * share, top + (number + 1) * share - 20, last)
        if self.style.running_head:
            number = str(self.random.randrange(10, 300))
            self._put(self.width // 2, bottom + 20, number, self.style.body, "ma")
            self.texts.append(number)

    def _running_head(self, top: int) -> int:
        text = f"{self._words(2).upper()}  {self.random.randrange(1970, 2025)}"
        size = round(self.style.body * 0.9)
        self._put(self.margin, top, text, size)
        self.texts.append(text)
        return size

    def _section(self, columns: int, top: int, bottom: int, last: bool) -> None:
        style = self.style
        if style.headlines:
            size = round(style.body * self.random.uniform(1.8, 2.6))
            for text in self._broken(self._words(7).capitalize(), size, self._whole(top, bottom)):
                self._put(self.margin, top, text, size, bold=True)
                self.texts.append(text)
                top += round(size * _LEADING)
            top += style.body // 2
        frames = self._frames(columns, top, bottom)
        if last and style.picture:
            self._picture(frames[-style.picture :], self.random.randint(220, 340))
        for place, frame in enumerate(frames):
            self._fill(frame, drop_cap=style.drop_cap and place == 0)
            self.texts += frame.texts

    def _frames(self, columns: int, top: int, bottom: int) -> list[_Frame]:
        room = self.width - 2 * self.margin + self.style.gutter
        step = room / columns
        lefts = [self.margin + round(step * place) for place in range(columns)]
        wide = round(step) - self.style.gutter
        return [_Frame(left, left + wide, top, bottom) for left in lefts]

    def _whole(self, top: int, bottom: int) -> _Frame:
        return _Frame(self.margin, self.width - self.margin, top, bottom)

    def _picture(self, frames: list[_Frame], height: int) -> None:
        """A picture at the head of `frames`, its caption read before what stands under it."""
        first, last, top = frames[0], frames[-1], frames[0].y
        self._shapes((first.left, top, last.right, top + height))
        caption = _Frame(first.left, last.right, top + height + 12, first.bottom)
        self._set(caption, self._sentences(2), round(self.style.body * 0.85))
        first.texts += caption.texts
        for frame in frames:
            frame.y = caption.y + self.style.body

    def _fill(self, frame: _Frame, *, drop_cap: bool) -> None:
        """Paragraphs, and what the style puts between them, to the foot of the column."""
        style, size = self.style, self.style.body
        pictures = int(style.small_pictures)
        if drop_cap:
            self._drop_cap(frame)
        indent = 0
        while frame.y + 4 * size < frame.bottom:
            self._set(frame, self._sentences(self.random.randint(2, 5)), size, indent=indent)
            indent = size
            chance = self.random.random()
            room = frame.bottom - frame.y
            if pictures and chance < 0.5 and room > 16 * size:
                pictures -= 1
                top, high = frame.y + size // 2, self.random.randint(5, 8) * size
                self._shapes((frame.left, top, frame.right, top + high))
                frame.y = top + high + 10
                self._set(frame, self._sentences(1), round(size * 0.85))
                frame.y += size
            elif style.quotes and chance < 0.4 and room > 12 * size:
                frame.y += size
                self._set(frame, self._words(9).capitalize(), round(size * 1.5))
                frame.y += size
            elif style.subheads and chance < 0.8 and room > 9 * size:
                frame.y += round(size * 0.8)
                self._set(frame, self._words(3).capitalize(), round(size * 1.15), bold=True)
                frame.y += round(size * 0.2)
                indent = 0

    def _drop_cap(self, frame: _Frame) -> None:
        """A letter three lines high, the lines beside it set in."""
        size = self.style.body
        text = self._sentences(3)
        high = round(size * 3.2)
        self._put(frame.left, frame.y - size // 8, text[0], high, bold=True)
        wide = round(_face(self.font, high).getlength(text[0])) + size // 3
        beside = _Frame(frame.left + wide, frame.right, frame.y, frame.bottom)
        lines = list(self._broken(text[1:], size, beside))
        self._rows(beside, lines[:3], size)
        frame.y = beside.y
        frame.texts.append(text[0])
        frame.texts += beside.texts
        self._set(frame, " ".join(lines[3:]), size)

    def _set(
        self, frame: _Frame, text: str, size: int, *, indent: int = 0, bold: bool = False
    ) -> None:
        self._rows(frame, list(self._broken(text, size, frame, indent)), size, indent, bold)

    def _rows(
        self, frame: _Frame, lines: list[str], size: int, indent: int = 0, bold: bool = False
    ) -> None:
        """Lines down the column as far as it reaches; what does not fit is never printed."""
        for place, text in enumerate(lines):
            if frame.y + size > frame.bottom:
                return
            left = frame.left + (indent if place == 0 else 0)
            if self.style.justified and not bold and place < len(lines) - 1:
                self._justified(left, frame.right, frame.y, text, size)
            else:
                self._put(left, frame.y, text, size, bold=bold)
            frame.texts.append(text)
            frame.y += round(size * _LEADING)

    def _justified(self, left: int, right: int, y: int, text: str, size: int) -> None:
        words = text.split()
        face = _face(self.font, size)
        room = right - left - sum(face.getlength(word) for word in words)
        x = float(left)
        for word in words:
            self._put(round(x), y, word, size)
            x += face.getlength(word) + room / max(len(words) - 1, 1)

    def _broken(self, text: str, size: int, frame: _Frame, indent: int = 0) -> Iterator[str]:
        face, line = _face(self.font, size), ""
        room = frame.right - frame.left - indent
        for word in text.split():
            longer = f"{line} {word}".lstrip()
            if line and face.getlength(longer) > room:
                yield line
                longer, room = word, frame.right - frame.left
            line = longer
        if line:
            yield line

    def _shapes(self, box: tuple[int, int, int, int]) -> None:
        """A picture: hills under a sky, without anything that looks like a letter."""
        left, top, right, bottom = box
        self.draw.rectangle(box, fill=(206, 212, 220), outline=_FAINT)
        for _ in range(3):
            x, wide = self.random.randint(left, right), (right - left) // 3
            hill = (max(x - wide, left), (top + bottom) // 2, min(x + wide, right), bottom)
            if hill[2] > hill[0]:
                shade = self.random.randint(90, 170)
                self.draw.chord((hill[0], hill[1], hill[2], 2 * bottom - hill[1]), 180, 360, shade)
        part = self.image.crop(box).filter(ImageFilter.GaussianBlur(3))
        self.image.paste(part, box)

    def _put(
        self, x: int, y: int, text: str, size: int, anchor: str = "la", *, bold: bool = False
    ) -> None:
        face, stroke = _face(self.font, size), size / 64 if bold else 0
        self.draw.text((x, y), text, font=face, fill=INK, anchor=anchor, stroke_width=stroke)

    def _sentences(self, count: int) -> str:
        return " ".join(self._sentence() for _ in range(count))

    def _sentence(self) -> str:
        parts = [self._words(self.random.randint(2, 5)), self.random.choice(_VERBS)]
        parts.append(self._words(self.random.randint(2, 7)))
        return " ".join(parts).capitalize() + self.random.choice("..?")

    def _words(self, count: int) -> str:
        """Nouns, each after a small word."""
        said = []
        for place in range(count):
            said.append(self.random.choice(WORDS if place % 2 else _SMALL_WORDS))
        return " ".join([*said, self.random.choice(WORDS)])


@cache
def _face(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    basic = ImageFont.Layout.BASIC
    if path:
        return ImageFont.truetype(path, size, layout_engine=basic)
    return ImageFont.load_default(size).font_variant(layout_engine=basic)
