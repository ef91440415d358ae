"""Rows of lines -> grey pictures of one height, on the disk, so that any number of them fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from finetune.engines.base import ROWS, TrainingFailed
from finetune.engines.recogniser.characters import line_text

# Pixels a step of the network.
STEP = 4
LEAST_WIDTH = 8
# Widths are filled up to multiples of this, so that few shapes come about.
WIDTH_STEP = 32


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a split: its text and its picture's file."""

    text: str
    image: Path


def rows_of(work: Path, split: str) -> list[Row]:
    """The rows of <work>/rows/<split>.jsonl; none where there is no such file."""
    path = work / ROWS / f"{split}.jsonl"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [Row(line_text(row["text"]), work / row["image"]) for row in found]


def grey_line(image: np.ndarray, *, height: int, most: int) -> np.ndarray:
    """A line (h, w) or (h, w, 3) BGR -> grey uint8 (height, w'), its proportions kept up to `most`.

    Scaled as EasyOCR scales what it reads.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    width = int(height * image.shape[1] / image.shape[0])
    width = min(max(width, LEAST_WIDTH), most)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


class Lines:
    """Pictures of one height side by side in a file, with their texts; uint8 (height, w) each."""

    def __init__(self, pixels: np.ndarray, texts: Sequence[str], places: np.ndarray) -> None:
        """`pixels`: (columns of all lines, height); `places`: where each begins and ends."""
        self._pixels, self.texts, self._places = pixels, texts, places

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def height(self) -> int:
        return self._pixels.shape[1]

    @property
    def widths(self) -> np.ndarray:
        return self._places[:, 1] - self._places[:, 0]

    def picture(self, number: int) -> np.ndarray:
        begin, end = self._places[number]
        return np.ascontiguousarray(self._pixels[begin:end].T)

    def only(self, numbers: Sequence[int]) -> Lines:
        texts = [self.texts[number] for number in numbers]
        return Lines(self._pixels, texts, self._places[numbers])


def lines_prepare(rows: Sequence[Row], path: Path, *, height: int, most: int) -> Lines:
    """Reads and scales the pictures, `most` pixels wide at most.

    Raises TrainingFailed where one can't be read, or there is none.
    """
    if not rows:
        raise TrainingFailed("There is no line to learn from.", code="bad_rows")
    path.parent.mkdir(parents=True, exist_ok=True)
    places = np.zeros((len(rows), 2), np.int64)
    end = 0
    with path.open("wb") as file:
        for number, picture in enumerate(_pictures(rows, height, most)):
            file.write(np.ascontiguousarray(picture.T).tobytes())
            places[number] = end, end + picture.shape[1]
            end += picture.shape[1]
    pixels = np.memmap(path, np.uint8, "r").reshape(-1, height)
    return Lines(pixels, [row.text for row in rows], places)


def _pictures(rows: Sequence[Row], height: int, most: int) -> Iterator[np.ndarray]:
    for row in rows:
        image = cv2.imread(str(row.image), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise TrainingFailed(
                f"{row.image.name} (“{row.text[:40]}”) is no picture that can be read. Take the "
                "row out of the dataset, or put its picture right.",
                code="bad_rows",
            )
        yield grey_line(image, height=height, most=most)


def filled_width(width: int) -> int:
    return -(-width // WIDTH_STEP) * WIDTH_STEP


def batch_of(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 (h, w) -> float32 (n, 1, h, W) from -1 to 1.

    Narrower ones are filled up to the right with their last column, as EasyOCR does.
    """
    width = filled_width(max(picture.shape[1] for picture in pictures))
    batch = np.empty((len(pictures), 1, pictures[0].shape[0], width), np.float32)
    for place, picture in enumerate(pictures):
        batch[place, 0, :, : picture.shape[1]] = picture
        batch[place, 0, :, picture.shape[1] :] = picture[:, -1:]
    batch /= 127.5
    batch -= 1
    return batch
