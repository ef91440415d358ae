"""A recogniser of lines: convolutions, a recurrent layer both ways, scores of each character.

A copy of this file stands beside the weights it was trained with, as EasyOCR wants a custom
network: it imports nothing but torch. The design is CRNN's (Shi et al. 2015, arXiv:1507.05717),
made smaller.
"""

from __future__ import annotations

import torch
from torch import nn


class Model(nn.Module):
    """Lines, float (n, 1, height, w) from -1 to 1 -> scores of each class, (n, w / 4, classes).

    Class 0 is CTC's blank. `channels`: of the first layer; `hidden`: of the recurrent one.
    """

    def __init__(self, num_class: int, height: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.height = height
        last = 4 * channels
        self.begin = nn.Sequential(*_block(1, channels, stride=2))
        self.see = nn.Sequential(
            *_block(channels, 2 * channels),
            nn.MaxPool2d(2),
            *_block(2 * channels, last),
            nn.MaxPool2d((2, 1)),
            *_block(last, last),
            nn.MaxPool2d((2, 1)),
        )
        values = (height + 1) // 2 // 8 * last
        self.read = nn.LSTM(values, hidden, bidirectional=True, batch_first=True)
        self.choose = nn.Linear(2 * hidden, num_class)
        # What is seen at a step alone counts, too: where letters are is then found in a fifth of
        # the steps that CTC takes to find it through the recurrent layer.
        self.glance = nn.Linear(values, num_class)

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """`text` is what EasyOCR passes to networks that write by what they have written."""
        # Laid out by pixel from here on, which convolutions on a CPU are a fifth quicker with.
        seen = self.begin(image).contiguous(memory_format=torch.channels_last)
        seen = self.see(seen).flatten(1, 2).transpose(1, 2)
        return self.glance(seen) + self.choose(self.read(seen)[0])


def _block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]
