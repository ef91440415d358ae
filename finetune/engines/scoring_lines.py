"""Lines of OCR by a recogniser alone: the picture is the line, nothing has to be found in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

# The engines of this name read boxes that they are given.
NAME = "recogniser"


class Recogniser(Protocol):
    """What `ocr.engines.recogniser` has beside an engine's ways."""

    def recognise(self, image: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Any]: ...


def line_reader(engine: Recogniser) -> Callable[[np.ndarray], str]:
    """Reads an RGB picture, uint8 (height, width, 3), of one line."""
    import numpy as np

    def read(image: np.ndarray) -> str:
        height, width = image.shape[:2]
        corners = [(0, 0), (width, 0), (width, height), (0, height)]
        return engine.recognise(image, [np.array(corners, dtype=np.float32)])[0].text.strip()

    return read
