"""Every OCR engine the product names, each built once a process, with models made here."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr.engines.base import OcrEngine
from ocr.engines.line_finder import LineFinder
from ocr.selftest import drawn_pages

# Spelled in the letters that the recogniser trained here knows, and no two alike.
PAGES = (
    ("CHAPTER 1 STARTS HERE", "BREAD 11"),
    ("NUMBER 222", "THE TABLE AND THE PLATE 2"),
    ("PAPER 33 MAKERS", "3 SEVENTHS"),
    ("A LETTER 4444 FREE", "MARKET HALL 44"),
)
_LIBRARIES = {
    "paddleocr": ("paddleocr", "requirements/ocr-paddle.txt"),
    "easyocr": ("easyocr", "requirements/ocr-easyocr.txt requirements/torch.txt"),
    "trocr": ("transformers", "requirements/ocr-transformers.txt requirements/torch.txt"),
    "llava": ("transformers", "requirements/ocr-transformers.txt requirements/torch.txt"),
}
# What is trained or takes seconds to load.
_HEAVY = frozenset(_LIBRARIES)
ALIASES = ("rapidocr", "tesseract", *_LIBRARIES)


def engine_params(*aliases: str) -> list[object]:
    """The aliases as parameters of a test, marked as heavy or as missing a library."""
    return [pytest.param(alias, marks=_marks(alias)) for alias in aliases or ALIASES]


def needs(alias: str) -> list[pytest.MarkDecorator]:
    """Marks for a module whose tests need the engine's library."""
    return _marks(alias)


def page(number: int) -> np.ndarray:
    """A page of its own with the lines of PAGES[number], RGB (360, 640, 3)."""
    image = Image.new("RGB", (640, 360), "white")
    pen = ImageDraw.Draw(image)
    for place, text in enumerate(PAGES[number]):
        where = (30 + 40 * number, 30 + 50 * number + 70 * place)
        pen.text(where, text, font=ImageFont.load_default(30), fill=(20, 20, 20))
    return np.asarray(image)


@cache
def build(alias: str) -> OcrEngine:
    """The engine, with one thread."""
    # Engines import nothing until they are built, and so does this.
    if alias == "rapidocr":
        from ocr.engines.rapidocr import RapidOcrEngine

        return RapidOcrEngine(threads=1)
    if alias == "tesseract":
        from ocr.engines.tesseract import TesseractEngine

        return TesseractEngine()
    if alias == "paddleocr":
        from ocr.engines.paddleocr import PaddleOcrEngine

        return PaddleOcrEngine(threads=1, cache_dir=_folder() / "paddlex")
    if alias == "easyocr":
        from ocr.engines.easyocr import EasyOcrEngine

        return EasyOcrEngine(threads=1, recogniser="letters", model_dir=letters_folder())
    from ocr.engines.transformers import TransformersEngine

    folder = trocr_folder() if alias == "trocr" else llava_folder()
    return TransformersEngine(threads=1, model=folder, languages=["en"])


@cache
def letters_folder() -> Path:
    """A folder with the recogniser `letters` in EasyOCR's format, trained here."""
    ready_torch()
    from tests.ocr.recognisers import train_easyocr

    folder = _folder() / "letters"
    train_easyocr(folder, "letters")
    return folder


@cache
def trocr_folder() -> Path:
    """A model of TrOCR's kind that knows the lines of all pages drawn here."""
    ready_torch()
    from tests.ocr.tiny_models import train_trocr

    folder = _folder() / "trocr"
    finder = LineFinder(engine="trocr", threads=1)
    lines = []
    for image, text in _known_pages():
        boxes = sorted(finder.find(image), key=lambda box: float(box[0, 1]))
        cuts = [finder.cut(image, box) for box in boxes]
        lines += zip(cuts, text.splitlines(), strict=True)
    train_trocr(folder, lines, steps=240)
    return folder


@cache
def llava_folder() -> Path:
    """A chat model that sees, and knows what all pages drawn here say."""
    ready_torch()
    from ocr.engines.transformers import PROMPT
    from tests.ocr.tiny_models import train_llava

    folder = _folder() / "llava"
    train_llava(folder, _known_pages(), prompt=PROMPT, steps=200)
    return folder


def ready_torch() -> None:
    """Before anything here imports it: torchvision, easyocr and transformers need it so."""
    from ocr.engines.torch_library import import_torch

    import_torch()


def _known_pages() -> list[tuple[np.ndarray, str]]:
    (tested,) = drawn_pages(["en"])
    known = [(np.asarray(tested.image), tested.truth)]
    return known + [(page(n), "\n".join(lines)) for n, lines in enumerate(PAGES)]


@cache
def _folder() -> Path:
    """In the suite's own data folder, which is removed at its end."""
    return Path(tempfile.mkdtemp(prefix="engines-", dir=os.environ["DATA_DIR"]))


def _marks(alias: str) -> list[pytest.MarkDecorator]:
    if alias not in _HEAVY:
        return []
    library, requirements = _LIBRARIES[alias]
    return [
        pytest.mark.e2e,
        pytest.mark.timeout(600),
        pytest.mark.skipif(not find_spec(library), reason=f"pip install -r {requirements}"),
    ]
