"""How far the text of a page leans, for engines that read level lines alone.

The angle at which the dark pixels, summed along lines, part most sharply into rows and gaps
(Postl 1986; the criterion is that of Bloomberg, Kopec & Dasari 1995).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from ocr.engines.base import Polygon

# Degrees. Beyond, a page is photographed rather than scanned.
_MOST = 12.0
# The rows at the angle found must part so much more sharply than those of the page as it is.
_CLEARLY = 1.15
# And than at most other angles: text reaches 4 times and more, noise 1.5.
_IN_LINES = 2.0
_LONG_SIDE = 1000
_POINTS = 40_000


def text_skew(grey: Image.Image) -> float:
    """Degrees clockwise by which the text of a page (mode L) leans, from -12 to 12; 0 if unsure.

    Right to 0.1 degrees on pages of some lines, in about 8 ms.
    """
    import numpy as np

    small = grey.copy()
    small.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.int16)
    # Dark against its surroundings, whatever the paper's tone: the upper edges of strokes.
    ys, xs = np.nonzero(pixels[:-2] - pixels[2:] > 40)
    if len(xs) < 50:
        return 0.0
    step = -(-len(xs) // _POINTS)
    xs, ys = xs[::step].astype(np.float32), ys[::step].astype(np.float32)

    def sharpness(degrees: float) -> float:
        sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        rows = (ys * cos - xs * sin + _LONG_SIDE).astype(np.int32)
        counts = np.bincount(rows).astype(np.float64)
        return float(np.square(np.diff(counts)).sum())

    coarse = {
        step / 2: sharpness(step / 2) for step in range(round(-2 * _MOST), round(2 * _MOST) + 1)
    }
    around = max(coarse, key=coarse.__getitem__)
    best = max((around + step / 10 for step in range(-4, 5)), key=sharpness)
    # The sharpest at the very end of the range is the slope of something else.
    clear = (
        abs(best) < _MOST - 0.4
        and sharpness(best) > _CLEARLY * sharpness(0.0)
        and sharpness(best) > _IN_LINES * float(np.median(list(coarse.values())))
    )
    return best if clear else 0.0


def levelled(grey: Image.Image, skew: float) -> Image.Image:
    """The page turned about its middle so that text leaning by `skew` degrees is level.

    It grows, so that no corner is lost.
    """
    return grey.rotate(skew, Image.Resampling.BICUBIC, expand=True, fillcolor=255)


def leaning(
    polygon: Polygon, skew: float, level: tuple[int, int], page: tuple[int, int]
) -> Polygon:
    """A polygon of the levelled page of size `level` where it was on the page of size `page`.

    Sizes are (width, height). What reaches beyond the page's edge is drawn back to it.
    """
    sin, cos = math.sin(math.radians(skew)), math.cos(math.radians(skew))
    points = []
    for x, y in polygon:
        across, down = x - level[0] / 2, y - level[1] / 2
        points.append(
            (
                min(max(page[0] / 2 + across * cos - down * sin, 0.0), float(page[0])),
                min(max(page[1] / 2 + across * sin + down * cos, 0.0), float(page[1])),
            )
        )
    return tuple(points)
