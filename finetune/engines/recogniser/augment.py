"""A line as another scanner, printer or hand with the scissors would have given it.

All is drawn from one generator of random numbers, so that a line's shape depends on nothing but
seed, epoch and row: a training that was cut off sees what it would have seen.
"""

from __future__ import annotations

import cv2
import numpy as np


def varied(picture: np.ndarray, random: np.random.Generator, *, most: int) -> np.ndarray:
    """Grey uint8 (h, w) -> (h, w'), at most `most` wide."""
    picture = _moved(picture, random, most)
    if random.random() < 0.25:
        picture = _coarse(picture, random)
    if random.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (3, 3), random.uniform(0.3, 1.0))
    return _shaded(picture, random)


def _moved(picture: np.ndarray, random: np.random.Generator, most: int) -> np.ndarray:
    """Slanted, stretched, cut wider or closer, by one transform."""
    height, width = picture.shape
    slant = random.normal(0, 0.1)
    stretch = random.uniform(0.85, 1.2)
    before, after = random.uniform(-0.05, 0.35, 2) * height
    rise = random.uniform(0.8, 1.12)
    shift = random.normal(0, 0.04) * height + (1 - rise) * height / 2
    climb = random.normal(0, 0.03) * height / max(width, height)
    wide = min(max(int(width * stretch + before + after), 8), most)
    stretch = min(stretch, (wide - before - after) / width)
    place = np.float32(
        [
            [stretch, slant, before - slant * height / 2],
            [climb, rise, shift - climb * width / 2],
        ]
    )
    return cv2.warpAffine(
        picture, place, (wide, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _coarse(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As if scanned with fewer dots."""
    height, width = picture.shape
    share = random.uniform(0.45, 0.9)
    small = cv2.resize(
        picture,
        (max(int(width * share), 4), max(int(height * share), 4)),
        interpolation=cv2.INTER_AREA,
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _shaded(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Paper and ink of other shades, darker to one side, with noise."""
    found = picture.astype(np.float32)
    middle = float(found.mean())
    found = (found - middle) * random.uniform(0.6, 1.3) + middle + random.normal(0, 12)
    if random.random() < 0.3:
        found += np.linspace(0, random.normal(0, 20), picture.shape[1], dtype=np.float32)
    if random.random() < 0.5:
        found += random.standard_normal(picture.shape, np.float32) * random.uniform(2, 12)
    return np.clip(found, 0, 255).astype(np.uint8)
