"""Stand-ins set by dotted path, for what is slow or must fail on cue."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, ClassVar

from mlops.exceptions import EngineUnavailable
from ocr.engines.base import Line, Reading

if TYPE_CHECKING:
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


FAKE_ENGINES = {
    "ocr": {
        "fake": {"BACKEND": "tests.fakes.FakeOcrEngine"},
        "missing": {"BACKEND": "tests.fakes.MissingOcrEngine"},
    }
}
