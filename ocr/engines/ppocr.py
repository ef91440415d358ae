"""What stands around PP-OCR's two networks: page -> detector's input, its map -> boxes -> crops,
and the recogniser's answer -> text.

Written here rather than taken from rapidocr because importing rapidocr's own takes 0.7 s a process
and each box of its detector goes through shapely and pyclipper; the method and its constants are
those of DB (Liao et al. 2020, arXiv:1911.08947) and CTC (Graves et al. 2006) as PP-OCR sets them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

CROP_HEIGHT = 48
BLANK = 0
# The recogniser halves the width three times; steps of this size also bound how many shapes a
# backend has to prepare kernels for.
_WIDTH_STEP = 32
_GREY = 127
# Latin letters with their accents, punctuation, currencies, signs such as No. and TM, fractions,
# and the few letters of later blocks that Azerbaijani, Romanian and Vietnamese write with.
_LATIN_BLOCKS = (
    range(0x20, 0x180),
    range(0x2010, 0x205F),
    range(0x20A0, 0x20D0),
    range(0x2100, 0x2160),
    (ord(letter) for letter in "ƏəƠơƯưȘșȚț\u2212"),
)
_LATIN = frozenset(code for block in _LATIN_BLOCKS for code in block)


@dataclass(frozen=True, slots=True)
class Boxes:
    """How the detector's map becomes boxes.

    `ink`: probability from which a pixel is text; `keep`: mean probability a box must have;
    `grow`: area times this over the perimeter is what the shrunken box is grown by.
    """

    ink: float = 0.3
    keep: float = 0.5
    grow: float = 1.6
    most: int = 1000


def latin_indices(characters: Sequence[str]) -> np.ndarray:
    """Where in the dictionary (blank first) the characters of Latin-script text stand."""
    return np.array(
        [
            index
            for index, character in enumerate(characters)
            if index == BLANK or (len(character) == 1 and ord(character) in _LATIN)
        ]
    )


def bgr(image: np.ndarray) -> np.ndarray:
    """The channel order that the networks were trained with."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def detector_input(image: np.ndarray, long_side: int) -> np.ndarray:
    """The page scaled down to `long_side`, both sides multiples of 32, shape (1, h, w, 3).

    A very tall strip keeps a readable width: its short side is not taken under 0.4 `long_side`.
    """
    height, width = image.shape[:2]
    scale = max(long_side / max(height, width), 0.4 * long_side / min(height, width))
    scale = min(scale, 1.0)
    size = tuple(max(32, round(side * scale / 32) * 32) for side in (width, height))
    if size == (width, height):
        return image[None]
    return cv2.resize(image, size)[None]


def find_boxes(
    probability: np.ndarray, width: int, height: int, settings: Boxes
) -> list[np.ndarray]:
    """Boxes, float32 (4, 2), clockwise from the top left, in pixels of the (width, height) page."""
    mask = cv2.dilate((probability > settings.ink).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.float32([width / probability.shape[1], height / probability.shape[0]])
    last = np.float32([width - 1, height - 1])
    boxes = []
    for contour in contours[: settings.most]:
        centre, (long, short), angle = cv2.minAreaRect(contour)
        if min(long, short) < 3:
            continue
        if _mean_inside(probability, cv2.boxPoints((centre, (long, short), angle))) < settings.keep:
            continue
        # Growing a rectangle by a distance gives a rectangle: no polygon library is needed.
        grow = settings.grow * long * short / (long + short)
        corners = cv2.boxPoints((centre, (long + grow, short + grow), angle))
        box = np.clip(np.round(_clockwise(corners) * scale), 0, last).astype(np.float32)
        if min(_sides(box)) > 3:
            boxes.append(box)
    return boxes


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box upright and 48 pixels high, shape (48, w, 3); one much taller than wide is turned."""
    across, down = _sides(box)
    if down >= 1.5 * across:
        box = np.roll(box, -1, axis=0)
        across, down = down, across
    width = max(math.ceil(CROP_HEIGHT * int(across) / max(int(down), 1)), 8)
    level = abs(box[0, 1] - box[1, 1]) <= 3 and abs(box[0, 0] - box[3, 0]) <= 3
    if level and box[0, 0] < box[1, 0] and box[0, 1] < box[3, 1]:
        # Nearly all boxes: slicing is five times cheaper than a warp and reads as well.
        left, top = (int(value) for value in box.min(axis=0))
        right, bottom = (int(value) for value in box.max(axis=0))
        return cv2.resize(image[top:bottom, left:right], (width, CROP_HEIGHT))
    corners = np.float32([[0, 0], [width, 0], [width, CROP_HEIGHT], [0, CROP_HEIGHT]])
    return cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(box, corners),
        (width, CROP_HEIGHT),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def batches(crops: Sequence[np.ndarray], size: int) -> list[tuple[list[int], np.ndarray]]:
    """Crops as batches: (their indices, uint8 (n, 48, w, 3) filled up with grey).

    Only crops that come to the same width w, in steps of 32, share a batch: what a narrower one
    would be filled up with costs more than sharing saves. `size` is the most in a batch.
    """
    alike: dict[int, list[int]] = {}
    for index, one in enumerate(crops):
        width = math.ceil(one.shape[1] / _WIDTH_STEP) * _WIDTH_STEP
        alike.setdefault(width, []).append(index)
    made = []
    for width, members in (
        (width, indices[start : start + size])
        for width, indices in sorted(alike.items())
        for start in range(0, len(indices), size)
    ):
        batch = np.full((len(members), CROP_HEIGHT, width, 3), _GREY, np.uint8)
        for place, index in enumerate(members):
            batch[place, :, : crops[index].shape[1]] = crops[index]
        made.append((members, batch))
    return made


@dataclass(frozen=True, slots=True)
class Decoded:
    """A line's text, its confidence from 0 to 1, and the step at which each character stands."""

    text: str
    confidence: float
    steps: np.ndarray


def decode(indices: np.ndarray, probabilities: np.ndarray, characters: Sequence[str]) -> Decoded:
    """Best path of CTC: repeats merged, blanks dropped; confidence is its mean probability."""
    fresh = np.concatenate(([True], indices[1:] != indices[:-1])) & (indices != BLANK)
    steps = np.flatnonzero(fresh)
    if not len(steps):
        return Decoded("", 0.0, steps)
    text = "".join(characters[index] for index in indices[steps])
    return Decoded(text, float(np.clip(probabilities[steps].mean(), 0, 1)), steps)


def places(decoded: Decoded, *, per_step: float, width: int) -> list[tuple[float, float]]:
    """Where each character begins and ends along a crop of `width` pixels, in shares of it.

    `per_step`: pixels a step of the recogniser. A character is taken to reach half way to its
    neighbours, and no further than half the line's usual distance between two.
    """
    middles = (decoded.steps + 0.5) * per_step / width
    gaps = np.diff(middles)
    half = float(np.median(gaps)) / 2 if len(gaps) else 0.5
    reach = np.minimum(np.concatenate(([half], gaps / 2, [half])), half)
    begins, ends = middles - reach[:-1], middles + reach[1:]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _mean_inside(probability: np.ndarray, corners: np.ndarray) -> float:
    height, width = probability.shape
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int), [width - 1, height - 1])
    inside = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillConvexPoly(inside, (corners - [left, top]).astype(np.int32), 1)
    return cv2.mean(probability[top : bottom + 1, left : right + 1], inside)[0]


def _clockwise(corners: np.ndarray) -> np.ndarray:
    """Four corners from the top left on: the two leftmost, then the two rightmost, by height."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:])
    )
    return np.array([top_left, top_right, bottom_right, bottom_left], np.float32)


def _sides(box: np.ndarray) -> tuple[float, float]:
    """The longer of the two horizontal edges, and of the two vertical ones."""
    across = max(math.dist(box[0], box[1]), math.dist(box[3], box[2]))
    down = max(math.dist(box[0], box[3]), math.dist(box[1], box[2]))
    return across, down
