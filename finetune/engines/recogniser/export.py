"""What a training leaves: files for EasyOCR, for onnxruntime, and what both are to be fed with.

recogniser.json   what it reads and how lines are made ready
recogniser.onnx   the network for engines of any kind
recogniser.pth, recogniser.py, recogniser.yaml   as EasyOCR wants a custom network
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.engines.recogniser import network as network_module
from finetune.engines.recogniser.characters import Alphabet
from finetune.engines.recogniser.lines import STEP, WIDTH_STEP, Lines, batch_of
from finetune.engines.recogniser.network import Model
from finetune.engines.recogniser.onnx_graph import INPUT, OUTPUT, onnx_write
from ocr.engines.easyocr_models import STOCK_LANGUAGES, easyocr_codes
from ocr.engines.torch_library import import_torch

torch = import_torch()

NAME = "recogniser"
FORMAT = 1
# The furthest that a score may be off: sums are added up in another order.
TOLERANCE = 1e-3
LINES_COMPARED = 16


def save(
    folder: Path,
    network: Model,
    *,
    alphabet: Alphabet,
    sizes: dict[str, int],
    languages: Sequence[str],
    most_width: int,
    cer: float | None,
) -> None:
    """Writes `folder` anew. `languages`: ISO codes. `cer`: of the validation lines."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    described = {
        "format": FORMAT,
        "characters": alphabet.characters,
        "languages": list(languages),
        "network": sizes,
        "height": sizes["height"],
        "most_width": most_width,
        "width_step": WIDTH_STEP,
        "pixels_a_step": STEP,
        "input": f"'{INPUT}': grey lines, float32 (n, 1, height, width), from -1 (black) to 1, "
        "scaled linearly to the height, filled up to the right with their last column",
        "output": f"'{OUTPUT}': float32 (n, width / {STEP}, 1 + characters), before softmax; "
        "class 0 is CTC's blank",
        "cer": cer,
    }
    whole = json.dumps(described, ensure_ascii=False, indent=2)
    (folder / f"{NAME}.json").write_text(whole, encoding="utf-8")
    _save_easyocr(folder, network, alphabet, sizes, languages)
    onnx_write(
        network,
        folder / f"{NAME}.onnx",
        height=sizes["height"],
        metadata={"characters": alphabet.characters, "languages": ",".join(languages)},
    )


def _save_easyocr(
    folder: Path,
    network: Model,
    alphabet: Alphabet,
    sizes: dict[str, int],
    languages: Sequence[str],
) -> None:
    yaml = importlib.import_module("yaml")
    shutil.copy(network_module.__file__, folder / f"{NAME}.py")
    described = {
        "network_params": sizes,
        "imgH": sizes["height"],
        "lang_list": easyocr_codes(tuple(code for code in languages if code in STOCK_LANGUAGES)),
        "character_list": alphabet.characters,
    }
    written = yaml.safe_dump(described, allow_unicode=True)
    (folder / f"{NAME}.yaml").write_text(written, encoding="utf-8")
    # As a network looks that was trained on several GPUs, which EasyOCR expects.
    state = {f"module.{name}": value.cpu() for name, value in network.state_dict().items()}
    torch.save(state, folder / f"{NAME}.pth")


def compared(folder: Path, network: Model, lines: Lines, sizes: dict[str, int]) -> dict[str, Any]:
    """The scores of some lines by the trained network, by its saved weights and by its graph."""
    some = [lines.picture(number) for number in range(min(LINES_COMPARED, len(lines)))]
    # Batches of another size each, as they come when it is served.
    batches = [batch_of(some[:1]), batch_of(some)]
    trained = [_scores(network, batch) for batch in batches]
    again = Model(network.choose.out_features, **sizes)
    state = torch.load(folder / f"{NAME}.pth", weights_only=True)
    again.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    session = importlib.import_module("onnxruntime").InferenceSession(
        folder / f"{NAME}.onnx", providers=["CPUExecutionProvider"]
    )
    sides = {
        "reloaded": _side(trained, [_scores(again, batch) for batch in batches]),
        "onnx": _side(trained, [session.run(None, {INPUT: batch})[0] for batch in batches]),
    }
    fit = all(side["agree"] for side in sides.values())
    return {"tolerance": TOLERANCE, "lines": len(some), **sides, "fit": fit}


def _scores(network: Model, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network.cpu().eval()(torch.from_numpy(batch)).numpy()


def _side(trained: list[np.ndarray], other: list[np.ndarray]) -> dict[str, Any]:
    pairs = list(zip(trained, other, strict=True))
    largest = max(float(np.abs(one - two).max()) for one, two in pairs)
    alike = np.concatenate([(one.argmax(2) == two.argmax(2)).ravel() for one, two in pairs])
    return {
        "max_difference": largest,
        "same_character": float(alike.mean()),
        "agree": largest <= TOLERANCE,
    }
