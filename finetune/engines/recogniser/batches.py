"""Which lines are learnt together, in what order, and how they become tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from finetune.engines.recogniser.augment import varied
from finetune.engines.recogniser.characters import Alphabet, steps_needed
from finetune.engines.recogniser.lines import STEP, Lines, batch_of

# Batches whose lines are sorted by width together: so many that their order is still by chance.
TOGETHER = 40


class WidthSampler(Sampler[tuple[int, int]]):
    """(epoch, row): rows by chance, those of a batch of about one width."""

    def __init__(self, widths: np.ndarray, *, batch: int, seed: int) -> None:
        self._widths, self._batch, self._seed, self._epoch = widths, batch, seed, 0

    def __len__(self) -> int:
        return len(self._widths)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(len(self._widths))
        room = self._batch * TOGETHER
        alike = [
            part[np.argsort(self._widths[part], kind="stable")]
            for part in (order[start : start + room] for start in range(0, len(order), room))
        ]
        order = np.concatenate(alike)
        batches = [
            order[start : start + self._batch] for start in range(0, len(order), self._batch)
        ]
        # One that isn't full would shift all that follow it.
        last = [batches.pop()] if len(batches[-1]) < self._batch else []
        shuffled = [batches[place] for place in random.permutation(len(batches))] + last
        for batch in shuffled:
            for row in batch:
                yield self._epoch, int(row)


class TrainLines(Dataset[tuple[np.ndarray, str]]):
    """Lines as they are seen in an epoch, varied anew in each."""

    def __init__(self, lines: Lines, *, seed: int, vary: bool, most: int) -> None:
        self._lines, self._seed, self._vary, self._most = lines, seed, vary, most

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, str]:
        epoch, row = key
        picture, text = self._lines.picture(row), self._lines.texts[row]
        if not self._vary:
            return picture, text
        changed = varied(picture, np.random.default_rng([self._seed, epoch, row]), most=self._most)
        # Squeezed too much for its text, it would teach nothing.
        fits = changed.shape[1] // STEP >= steps_needed(text)
        return (changed if fits else picture), text


class EvalLines(Dataset[tuple[np.ndarray, str]]):
    """Lines as they are, by width."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._order = lines, np.argsort(lines.widths, kind="stable")

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, place: int) -> tuple[np.ndarray, str]:
        row = int(self._order[place])
        return self._lines.picture(row), self._lines.texts[row]


class Collator:
    """Lines with texts -> tensors; characters that the alphabet lacks are left out of the target.

    `texts` go along, for what is read to be compared with.
    """

    def __init__(self, alphabet: Alphabet) -> None:
        self._places = {letter: place for place, letter in enumerate(alphabet.characters, 1)}

    def __call__(self, rows: Sequence[tuple[np.ndarray, str]]) -> dict[str, Any]:
        targets = [
            [self._places[letter] for letter in text if letter in self._places]
            for _picture, text in rows
        ]
        return {
            "lines": torch.from_numpy(batch_of([picture for picture, _text in rows])),
            "targets": torch.tensor([one for target in targets for one in target]),
            "lengths": torch.tensor([len(target) for target in targets]),
            "texts": [text for _picture, text in rows],
        }
