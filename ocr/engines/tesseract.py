"""Tesseract 5, by way of its program: no bindings, one process a page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from mlops.exceptions import EngineUnavailable, JobFailed, NotInstalled
from ocr.engines.base import Line, Reading
from ocr.engines.device import AUTO as AUTO_DEVICE
from ocr.engines.device import parse_device
from ocr.engines.skew import leaning, levelled, text_skew
from ocr.engines.spans import word_spans
from ocr.languages import AUTO, LANGUAGES

if TYPE_CHECKING:
    import numpy as np

_BY_DATA = {language.tesseract: code for code, language in LANGUAGES.items()}
# Tesseract's layout analysis takes a page of East Asian text for columns of vertical writing (CER
# 0.6 on a clean Korean page, 0.005 as one column); on Latin text it finds real columns.
_ONE_COLUMN = frozenset({"ko", "ja", "zh-Hans", "zh-Hant"})
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
# Scripts by the names that Tesseract's detector gives them, where ISO 15924 is not their start.
_SCRIPTS = {"Latin": "Latn", "Korean": "Kore", "Hangul": "Kore", "Japanese": "Jpan", "Han": "Hani"}
# A word in Latin letters that is as sure as this is left as it is on a Korean page.
_SURE = 0.9
# Hangul of a page rasterised at 150 dpi is read better at twice the size; beyond, it is big enough.
_ENLARGE_UP_TO = 2000
# No line that is as sure as this is the second reading of another.
_ECHO = 0.4
# Degrees from which a page is put level; below it the turning would cost more than it mends.
_LEANING = 0.4


@dataclass(slots=True)
class _Word:
    """`line` tells words of one line from those of the next; `spaced`: a space comes before it."""

    text: str
    confidence: float
    line: tuple[str, ...]
    left: int
    top: int
    right: int
    bottom: int
    spaced: bool = True


class TesseractEngine:
    """Reads any language whose trained data is installed, several at once.

    `timeout` is in seconds a page; `segmentation` is Tesseract's --psm, by default chosen by
    language. `installed` are the languages there is data for.
    """

    name: ClassVar[str] = "tesseract"
    requirements: ClassVar[str] = "ocr.txt"
    languages: ClassVar[frozenset[str]] = frozenset(_BY_DATA.values())
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = True
    batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        threads: int | None = None,
        device: str = AUTO_DEVICE,
        program: str = "tesseract",
        data_dir: str | None = None,
        timeout: float = 120,
        segmentation: int | None = None,
    ) -> None:
        """Raises EngineUnavailable if the program or all of its trained data is missing.

        `threads` changes nothing: with more than one of its own Tesseract is ten times slower. Nor
        does `device`: it runs on the CPU alone.
        """
        parse_device(device)
        found = shutil.which(program)
        if found is None:
            raise NotInstalled(
                f"The tesseract engine needs the program {program}: apt-get install tesseract-ocr"
            )
        self._command = [found, *(["--tessdata-dir", data_dir] if data_dir else [])]
        self._timeout = timeout
        self._segmentation = segmentation
        where, *listed = self._run(["--list-langs"]).splitlines()
        self.installed = frozenset(_BY_DATA[data] for data in listed if data in _BY_DATA)
        self._tells_scripts = "osd" in listed
        self.models = tuple(re.findall(r'"(.+)"', where))
        if not self.installed:
            raise EngineUnavailable(
                "Tesseract has no trained data: apt-get install tesseract-ocr-eng"
            )
        version = re.match(r"tesseract v?(\S+)", self._run(["--version"]))
        self.model_version = f"tesseract {version[1] if version else 'unknown'}"
        self.device = "cpu tesseract 1 thread"

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Lines stand in Tesseract's own order.

        Raises EngineUnavailable where a language's trained data is missing.
        """
        page = _grey(image)
        asked = tuple(sorted(self.installed)) if languages == (AUTO,) else languages
        missing = [code for code in asked if code not in self.installed]
        if missing:
            packages = (LANGUAGES[code].tesseract.replace("_", "-") for code in missing)
            raise EngineUnavailable(
                f"Tesseract has no trained data for {', '.join(missing)}: "
                f"apt-get install {' '.join(f'tesseract-ocr-{name}' for name in packages)}"
            )
        # Korean data alone reads "Invoice" as "100166"; and Korean pages do hold English words.
        reading = (*asked, "en") if "ko" in asked and "en" in self.installed else asked
        reading = tuple(dict.fromkeys(reading))
        size, skew = page.size, text_skew(page)
        # It looks for level lines: Korean suffers from 1 degree on, Latin from 3.
        if abs(skew) >= _LEANING:
            page = levelled(page, skew)
        level = page.size
        enlarged = "ko" in reading and max(page.size) <= _ENLARGE_UP_TO
        if enlarged:
            page = page.resize((page.width * 2, page.height * 2), Image.Resampling.BICUBIC)
        words = self._words(page, reading)
        if "ko" in reading and len(reading) > 1 and _mixed(words):
            words = _corrected(words, self._words(page, ("ko",)))
        lines = _once(_lines(words, 2 if enlarged else 1))
        if level != size:
            lines = tuple(
                replace(line, polygon=leaning(line.polygon, skew, level, size)) for line in lines
            )
        return Reading(lines, "+".join(languages), self.model_version)

    def detect_script(self, image: np.ndarray) -> tuple[str, float]:
        """The page's main script in ISO 15924 (`Latn`, `Kore`), and Tesseract's confidence (0 up).

        ("", 0.0) where there is too little text to tell. Mixed pages tend to come out as Latin.
        """
        if not self._tells_scripts:
            raise EngineUnavailable("Tesseract can't tell scripts: apt-get install tesseract-ocr")
        report = self._run(["-", "-", "--psm", "0"], _grey(image), may_fail=True)
        found = re.search(r"Script: (\S+)\s+Script confidence: (\S+)", report)
        if found is None:
            return "", 0.0
        return _SCRIPTS.get(found[1], found[1][:4]), float(found[2])

    def close(self) -> None:
        """Nothing is held between pages."""

    def _words(self, page: Image.Image, languages: tuple[str, ...]) -> list[_Word]:
        segmentation = self._segmentation or (4 if _ONE_COLUMN.intersection(languages) else 3)
        data = "+".join(LANGUAGES[code].tesseract for code in languages)
        options = ["-", "-", "-l", data, "--psm", str(segmentation)]
        return _parse(self._run([*options, "tsv", "txt"], page))

    def _run(
        self, options: list[str], page: Image.Image | None = None, *, may_fail: bool = False
    ) -> str:
        # PGM: the raw bytes behind a line of header, nothing to pack and nothing to unpack.
        stdin = None
        if page is not None:
            stdin = b"P5 %d %d 255\n" % page.size + page.tobytes()
        try:
            done = subprocess.run(
                [*self._command, *options],
                input=stdin,
                capture_output=True,
                timeout=self._timeout,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise JobFailed(
                f"Tesseract did not finish a page within {self._timeout:g} s.", code="ocr_timeout"
            ) from None
        if done.returncode and not may_fail:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise JobFailed(
                f"Tesseract failed: {said[-1] if said else f'exit {done.returncode}'}",
                code="ocr_failed",
            )
        return done.stdout.decode(errors="replace")


def _grey(image: np.ndarray) -> Image.Image:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
        raise ValueError(
            f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
        )
    return Image.fromarray(image).convert("L")


def _parse(output: str) -> list[_Word]:
    """Words from the table, and from the plain text beside it where a space stands.

    The table gives each Korean syllable a row of its own, so only the text tells whether two rows
    are one word.
    """
    rows = [line.split("\t") for line in output.splitlines()]
    text = "\n".join(row[0] for row in rows if len(row) < 12)
    words, at = [], 0
    for row in rows:
        if len(row) < 12 or row[0] != "5" or not row[11].strip():
            continue
        left, top, width, height = map(int, row[6:10])
        word = row[11].strip()
        confidence = min(max(float(row[10]) / 100, 0.0), 1.0)
        found = text.find(word, at)
        spaced = found != at
        at = found + len(word) if found >= 0 else at
        box = (left, top, left + width, top + height)
        words.append(_Word(word, confidence, tuple(row[2:5]), *box, spaced))
    return words


def _mixed(words: list[_Word]) -> bool:
    """Whether a Korean page holds words that may be Hangul read as Latin letters."""
    doubtful = any(word.confidence < _SURE and not _HANGUL.search(word.text) for word in words)
    return doubtful and any(_HANGUL.search(word.text) for word in words)


def _corrected(words: list[_Word], korean: list[_Word]) -> list[_Word]:
    """Doubtful words without Hangul give way to what Korean data alone saw there, if surer.

    With both sets of data loaded Tesseract at times prefers "AlSH" to the Korean word it stands
    for; alone, Korean data reads the word well and the English ones as digits of low confidence.
    """
    result, korean = [], list(korean)
    for word in words:
        if word.confidence >= _SURE or _HANGUL.search(word.text):
            result.append(word)
            continue
        middle = (word.top + word.bottom) / 2
        there = [
            other
            for other in korean
            if word.left <= (other.left + other.right) / 2 <= word.right
            and other.top <= middle <= other.bottom
        ]
        surer = _confidence(there) > word.confidence
        if surer and any(_HANGUL.search(other.text) for other in there):
            for place, other in enumerate(there):
                korean.remove(other)
                other.line = word.line
                other.spaced = other.spaced if place else word.spaced
            result.extend(there)
        else:
            result.append(word)
    return result


def _lines(words: list[_Word], scale: int) -> tuple[Line, ...]:
    """Words joined to lines, their boxes divided by `scale`."""
    by_line: dict[tuple[str, ...], list[_Word]] = {}
    for word in words:
        by_line.setdefault(word.line, []).append(word)
    lines = []
    for members in by_line.values():
        left = min(word.left for word in members) / scale
        top = min(word.top for word in members) / scale
        right = max(word.right for word in members) / scale
        bottom = max(word.bottom for word in members) / scale
        polygon = ((left, top), (right, top), (right, bottom), (left, bottom))
        text, spans = _spelled(members)
        lines.append(Line(text, _confidence(members), polygon, spans))
    return tuple(lines)


def _once(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Without what Tesseract made of the lower part of a line after it had read all of it.

    Such a line lies within another that is far surer, and is next to nothing itself.
    """
    kept = [line for line in lines if line.confidence >= _ECHO]
    return tuple(
        line
        for line in lines
        if line.confidence >= _ECHO or not any(_within(line, other) for other in kept)
    )


def _within(line: Line, other: Line) -> bool:
    """Whether most of a line's box lies in the other's."""
    (left, top), _, (right, bottom), _ = line.polygon
    (other_left, other_top), _, (other_right, other_bottom), _ = other.polygon
    across = min(right, other_right) - max(left, other_left)
    down = min(bottom, other_bottom) - max(top, other_top)
    area = (right - left) * (bottom - top)
    return min(across, down) > 0 and across * down > 0.7 * area


def _spelled(members: list[_Word]) -> tuple[str, tuple[tuple[float, float], ...]]:
    """A line's text, and where its words stand on it."""
    start = min(word.left for word in members)
    length = max(max(word.right for word in members) - start, 1)
    text, places, end = "", [], start
    for word in members:
        if word.spaced and text:
            text += " "
            places.append(((end - start) / length, (word.left - start) / length))
        text += word.text
        step = (word.right - word.left) / len(word.text)
        places += [
            ((word.left + n * step - start) / length, (word.left + (n + 1) * step - start) / length)
            for n in range(len(word.text))
        ]
        end = word.right
    return text, word_spans(text, places)


def _confidence(words: list[_Word]) -> float:
    """Mean over characters, so that a stray mark does not weigh as much as a word."""
    length = sum(len(word.text) for word in words)
    return sum(word.confidence * len(word.text) for word in words) / max(length, 1)
