"""Recognisers trained here, in seconds, to read the font inside Pillow."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from tests.ocr import letter_network

# Without the letters that this font tells from 1 and 0 by a hair.
LETTERS = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ "
_HEIGHT = 32
_WIDTH = 96


def train_easyocr(folder: Path, name: str, *, steps: int = 150) -> None:
    """Trains a recogniser of LETTERS and writes it into `folder` as EasyOCR wants it.

    It learns from the known place of each letter, by cross-entropy a step, and is decoded as CTC
    decodes: CTC's own loss takes minutes until it has found the letters.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = Random(1)
    model = letter_network.Model(len(LETTERS) + 1, _WIDTH)
    optimiser = torch.optim.AdamW(model.parameters())
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
    weights = torch.ones(len(LETTERS) + 1)
    weights[0] = 0.4
    for _ in range(steps):
        images, classes = _batch(random, 16)
        scores = model(images).flatten(0, 1)
        loss = nn.functional.cross_entropy(scores, classes.flatten(), weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pace.step()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(letter_network.__file__, folder / f"{name}.py")
    described = {
        "network_params": {"width": _WIDTH},
        "imgH": _HEIGHT,
        "lang_list": ["en"],
        "character_list": LETTERS,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(described))
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save(state, folder / f"{name}.pth")


def _batch(random: Random, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lines filled up to one width, and the class of each step: its letter's number, or 0."""
    made = [_line(random) for _ in range(count)]
    width = -(-max(image.shape[1] for image, _ in made) // 4) * 4
    classes = torch.zeros(count, width // 4, dtype=torch.long)
    for row, (_, letters) in enumerate(made):
        for letter, place in letters:
            classes[row, min(int(place / 4), width // 4 - 1)] = LETTERS.index(letter) + 1
    padded = [
        np.pad(image, ((0, 0), (0, width - image.shape[1])), mode="edge") for image, _ in made
    ]
    return torch.from_numpy(np.stack(padded)[:, None]), classes


def _line(random: Random) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """A line of random letters, float32 (32, w), and each letter with its middle in pixels."""
    text = " ".join("".join(random.choices(LETTERS, k=random.randint(6, 14))).split()) or "A"
    size = random.choice((20, 24, 30, 36))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    before, after, above, below = (random.uniform(0.05, 0.35) * size for _ in range(4))
    width, height = int(right - left + before + after), int(bottom - top + above + below)
    image = Image.new("L", (width, height), "white")
    corner = (before - left, above - top)
    ImageDraw.Draw(image).text(corner, text, font=font, fill=random.randint(0, 60))
    scaled = max(8, int(width * _HEIGHT / height))
    pixels = image.resize((scaled, _HEIGHT), Image.Resampling.BICUBIC)
    ends = [font.getlength(text[:end]) for end in range(len(text) + 1)]
    letters = [
        (letter, (corner[0] + (ends[n] + ends[n + 1]) / 2) * scaled / width)
        for n, letter in enumerate(text)
    ]
    return np.asarray(pixels, np.float32) / 127.5 - 1, letters
