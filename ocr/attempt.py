"""One engine's reading of a page, the page put upright where the reading shows that it isn't."""

from __future__ import annotations

from dataclasses import dataclass

from mlops.engines import EngineCache
from ocr.engines.base import Reading
from ocr.orientation import find_rotation, signs
from ocr.page_image import PageImage
from ocr.routing import Choice


@dataclass(frozen=True, slots=True)
class Attempt:
    """`page` was turned clockwise by `rotation` degrees before this `reading` of it was made.

    `suspect`: the first look at it had some sign of a turned page.
    """

    page: PageImage
    choice: Choice
    reading: Reading
    rotation: int = 0
    suspect: bool = False


def read_upright(
    page: PageImage,
    choice: Choice,
    engines: EngineCache,
    *,
    rotate: bool,
    reading: Reading | None = None,
) -> Attempt:
    """The page read as `choice` says; with `rotate`, upright. `reading`: of the page as it is."""
    engine = engines.get(choice.engine)

    def read(image: PageImage) -> Reading:
        return engine.read(image.array(), languages=choice.languages)

    reading = reading or read(page)
    if not rotate:
        return Attempt(page, choice, reading)
    name = engines.specs[choice.engine].backend_class().name
    directions = signs(page, reading, name)
    rotation = find_rotation(page, reading, name, directions, read)
    if rotation:
        page = page.turned(rotation)
        reading = read(page)
    return Attempt(page, choice, reading, rotation, bool(directions))
