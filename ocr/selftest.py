"""Tries an engine on one small page a script that it knows: pure, no Django."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from mlops.engines import EngineSpec
from mlops.exceptions import JobFailed, NotInstalled
from ocr import sample_texts as texts
from ocr.engines.base import OcrEngine
from ocr.languages import AUTO, LANGUAGES
from ocr.layout import lay_out, page_text
from ocr.sample_sheet import Sheet
from ocr.samples import korean_font
from ocr.scoring import cer

# Clean print is read at well under 1 % by a good model and at a few by a small one; an engine that
# is broken, or set up wrongly, is nowhere near this.
PASSING_CER = 0.1
_SIZE = (1000, 620)
_ENGLISH = (texts.PAGE_TITLE, *(" ".join(parts) for _, parts in texts.PAGE_SECTIONS[2:]))
_KOREAN = (texts.KOREAN_TITLE, *(" ".join(parts) for _, parts in texts.KOREAN_SECTIONS[1:2]))
_FIGURES = frozenset("0123456789 ")


@runtime_checkable
class Spelled(Protocol):
    """An engine that says which characters it tells apart; None: those of its languages."""

    alphabet: frozenset[str] | None


@runtime_checkable
class Stocked(Protocol):
    """An engine that says which languages it has models for on this machine."""

    installed: frozenset[str]


@runtime_checkable
class Filed(Protocol):
    """An engine that says where its models lie."""

    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """A page: what it says, and in which language it is to be read."""

    language: str
    truth: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Trial:
    """One page read: `seconds` without loading the model, `cer` against the page's own text."""

    language: str
    seconds: float
    cer: float
    text: str


@dataclass(frozen=True, slots=True)
class Examination:
    """What is known of one configured engine.

    `missing`: its library or program isn't installed. `failed`: it is, and can't be loaded, raises,
    or misreads. `error` says why. `ok` without trials: loaded, and not asked to read.
    """

    alias: str
    state: Literal["ok", "failed", "missing"]
    error: str = ""
    device: str = ""
    model_version: str = ""
    models: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    load_seconds: float = 0.0
    trials: tuple[Trial, ...] = ()


def examine(spec: EngineSpec, *, read: bool) -> Examination:
    """Loads the engine and, with `read`, puts its pages through it; raises nothing."""
    started = time.perf_counter()
    engine, loaded, trials = None, 0.0, []
    try:
        engine = spec.build()
        loaded = time.perf_counter() - started
        trials = run_self_test(engine) if read else []
        error = _misread(trials)
    except NotInstalled as raised:
        return Examination(spec.alias, "missing", raised.message)
    except JobFailed as raised:
        error = raised.message
    # Whatever a library raises is this engine's failure, and no reason not to try the others.
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    state = "failed" if error else "ok"
    if engine is None:
        return Examination(spec.alias, state, error)
    return Examination(
        spec.alias,
        state,
        error,
        engine.device,
        engine.model_version,
        engine.models if isinstance(engine, Filed) else (),
        tuple(sorted(languages_of(engine))),
        loaded,
        tuple(trials),
    )


def run_self_test(engine: OcrEngine) -> list[Trial]:
    """Each page that fits the engine through it. What the engine raises goes through."""
    alphabet = engine.alphabet if isinstance(engine, Spelled) else None
    trials = []
    for page in drawn_pages(languages_of(engine), alphabet):
        image = np.asarray(page.image)
        started = time.perf_counter()
        reading = engine.read(image, languages=(page.language,))
        seconds = time.perf_counter() - started
        text = page_text(lay_out(reading.lines, *page.image.size))
        trials.append(Trial(page.language, seconds, cer(page.truth, text), text))
    return trials


def _misread(trials: list[Trial]) -> str:
    worst = max(trials, key=lambda trial: trial.cer, default=None)
    if worst is None or worst.cer <= PASSING_CER:
        return ""
    return f"It misreads a clean page: CER {worst.cer:.3f} ({worst.language})."


def languages_of(engine: OcrEngine) -> frozenset[str]:
    """What it reads on this machine."""
    return engine.installed if isinstance(engine, Stocked) else engine.languages


def drawn_pages(
    languages: Collection[str], alphabet: Collection[str] | None = None
) -> list[DrawnPage]:
    """A page in Latin letters and one in Hangul, as far as the languages go; else one of figures.

    With an `alphabet` they are made of the words alone that can be spelled in it.
    """
    pages = []
    if latin := _latin(languages):
        pages.append(_page(latin, _ENGLISH, alphabet))
    if "ko" in languages and korean_font():
        pages.append(_page("ko", _KOREAN, alphabet))
    if not pages:
        pages.append(_page(min(languages, default=AUTO), _ENGLISH, _FIGURES))
    return pages


def _latin(languages: Collection[str]) -> str:
    """English, or the first language in Latin script."""
    if "en" in languages:
        return "en"
    known = sorted(code for code in languages if code in LANGUAGES)
    return next((code for code in known if LANGUAGES[code].script == "Latn"), "")


def _page(
    language: str, paragraphs: tuple[str, ...], alphabet: Collection[str] | None
) -> DrawnPage:
    sheet = Sheet(_SIZE, margin=60, font=korean_font() if language == "ko" else None)
    title, *others = (_spelled(paragraph, alphabet) for paragraph in paragraphs)
    sheet.line(title, 40, bold=alphabet is None, gap=24)
    for paragraph in others:
        sheet.paragraph(paragraph, 26, gap=24)
    return DrawnPage(language, "\n".join(sheet.lines), sheet.image)


def _spelled(text: str, alphabet: Collection[str] | None) -> str:
    """The words that the alphabet has the letters for, in the case it has most of.

    Where it has none, its own characters.
    """
    if alphabet is None:
        return text
    kept = [
        [word for word in words.split() if all(letter in alphabet for letter in word)]
        for words in (text, text.upper(), text.lower())
    ]
    words = max(kept, key=len) or [letter for letter in sorted(alphabet) if letter.strip()]
    return (" " if " " in alphabet else "").join(words)
