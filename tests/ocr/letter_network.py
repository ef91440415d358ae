"""A small recogniser, as EasyOCR wants a custom network: `Model` with `forward(x, text)`.

A copy of this file stands beside the weights that a test trains.
"""

from __future__ import annotations

import torch
from torch import nn


class Model(nn.Module):
    """Lines, float (n, 1, 32, w) from -1 to 1 -> scores of each class, (n, w / 4, classes)."""

    def __init__(self, num_class: int, width: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
            *_block(1, 12, 2), *_block(12, 24, 2), *_block(24, 48, (2, 1)), *_block(48, 48, (2, 1))
        )
        self.look = nn.Sequential(
            nn.Conv1d(96, width, 5, padding=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, num_class, 1),
        )

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        return self.look(self.see(image).flatten(1, 2)).transpose(1, 2)


def _block(before: int, after: int, pool: int | tuple[int, int]) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(pool),
    ]
