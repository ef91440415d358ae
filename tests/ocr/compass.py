"""An engine that tells which way up a page is from its shading, and reads accordingly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from PIL import Image

from ocr.engines.base import Line, Reading
from ocr.page_image import PageImage

if TYPE_CHECKING:
    import numpy as np

# By the degrees clockwise that a page was turned: what engines make of it, and how sure they are.
UPRIGHT = ("the harbour at night", 0.98)
SAYS = {0: UPRIGHT, 90: ("the harbour at night", 0.96), 180: ("46iu", 0.6), 270: ("4e 3ht", 0.58)}


def shaded(width: int = 300, height: int = 420) -> PageImage:
    """A page that grows lighter from its top to its bottom."""
    return PageImage(Image.linear_gradient("L").resize((width, height)).convert("RGB"))


class CompassEngine:
    """Reads three lines on any shaded page. `sizes`: of the images it was given.

    `unsure` takes its confidence away in every direction, `blind` all that it would read on a page
    that does not stand upright, `mute` all. With `writes_down` its lines run down the page.
    """

    name: ClassVar[str] = "compass"
    requirements: ClassVar[str] = "dev.txt"
    languages: ClassVar[frozenset[str]] = frozenset({"en"})
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    device = "cpu compass"
    model_version = "compass-1"

    def __init__(
        self,
        *,
        threads: int = 1,
        unsure: float = 0,
        blind: bool = False,
        mute: bool = False,
        writes_down: bool = False,
    ) -> None:
        self.sizes: list[tuple[int, int]] = []
        self._unsure = unsure
        self._blind = blind
        self._mute = mute
        self._writes_down = writes_down

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        height, width = image.shape[:2]
        self.sizes.append((width, height))
        turned = _direction(image)
        if self._mute or (self._blind and turned):
            return Reading((), "en", self.model_version)
        text, confidence = SAYS[turned]
        lying = turned in (90, 270) or self._writes_down
        lines = tuple(
            Line(text, confidence - self._unsure, _box(place, width, height, lying))
            for place in range(3)
        )
        return Reading(lines, "+".join(languages), self.model_version, None if self._blind else ())

    def close(self) -> None:
        """Nothing is held."""


class TesseractLike(CompassEngine):
    """As unsure as Tesseract is."""

    name: ClassVar[str] = "tesseract"


def _direction(image: np.ndarray) -> int:
    """By how much it was turned clockwise, told from the side where it is darkest."""
    sides = {
        0: image[0].mean(),
        90: image[:, -1].mean(),
        180: image[-1].mean(),
        270: image[:, 0].mean(),
    }
    return min(sides, key=lambda turned: sides[turned])


def _box(place: int, width: int, height: int, lying: bool) -> tuple[tuple[float, float], ...]:
    """A line over most of the page's width, or of its height."""
    if lying:
        left, right, top, bottom = (place + 1) * width / 5, (place + 1.5) * width / 5, 5, height - 5
    else:
        top, bottom, left, right = (
            (place + 1) * height / 5,
            (place + 1.5) * height / 5,
            5,
            width - 5,
        )
    return ((left, top), (right, top), (right, bottom), (left, bottom))
