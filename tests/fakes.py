"""Stand-ins set by dotted path, for what is slow or must fail on cue."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlops.exceptions import EngineUnavailable
from ocr.engines.base import Line, Reading
from ocr.languages import AUTO
from tests.fake_language import FakeLanguageEngine

__all__ = ["FakeLanguageEngine"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class FakeOcrEngine:
    """Says of each page how wide it is: distinct pages give distinct texts.

    `die_on_width`: a page of this width takes its process down, as a fault in a library would.
    """

    name: ClassVar[str] = "fake"
    requirements: ClassVar[str] = "dev.txt"
    languages: ClassVar[frozenset[str]] = frozenset({"en", "fr"})
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    device = "cpu fake"
    model_version = "fake-1"

    def __init__(self, *, die_on_width: int = 0, **_: Any) -> None:
        self.die_on_width = die_on_width

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        width = image.shape[1]
        if width == self.die_on_width:
            os.kill(os.getpid(), signal.SIGKILL)
        box = ((1.0, 2.0), (30.0, 2.0), (30.0, 9.0), (1.0, 9.0))
        low = tuple((x, y + 20) for x, y in box)
        lines = (Line(f"width {width}", 0.9, box), Line("faint", 0.3, low))
        return Reading(lines, "+".join(languages), self.model_version)

    def close(self) -> None:
        """Nothing is held."""


class MissingOcrEngine(FakeOcrEngine):
    """Its library is not installed."""

    languages: ClassVar[frozenset[str]] = frozenset({"ko"})

    def __init__(self, **_: Any) -> None:
        raise EngineUnavailable("Install it: pip install -r requirements/ocr-paddle.txt")


class GatedOcrEngine(FakeOcrEngine):
    """Reads once the file `gate` exists, and is loaded once `load_gate` does; empty: at once.

    `fail_on_width`: a page of this width raises what no engine should. `begun` counts the pages;
    the file `gate`.begun says to other processes that there is one.
    """

    def __init__(
        self, *, gate: str = "", load_gate: str = "", fail_on_width: int = 0, **_: Any
    ) -> None:
        super().__init__()
        self.gate, self.fail_on_width, self.begun = gate, fail_on_width, 0
        _pass(load_gate)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        self.begun += 1
        if AUTO not in languages:  # else it is a server's warm-up page
            if self.gate:
                Path(f"{self.gate}.begun").touch()
            _pass(self.gate)
        if image.shape[1] == self.fail_on_width:
            raise RuntimeError("a fault in the library")
        return super().read(image, languages=languages)


class BatchingOcrEngine(GatedOcrEngine):
    """Takes several pages in one call."""

    batches: ClassVar[bool] = True

    def read_many(
        self, images: Sequence[np.ndarray], *, languages: tuple[str, ...]
    ) -> list[Reading]:
        return [self.read(image, languages=languages) for image in images]


def _pass(gate: str) -> None:
    while gate and not Path(gate).exists():
        time.sleep(0.005)


FAKE_ENGINES = {
    "ocr": {
        "fake": {"BACKEND": "tests.fakes.FakeOcrEngine"},
        "missing": {"BACKEND": "tests.fakes.MissingOcrEngine"},
    }
}
