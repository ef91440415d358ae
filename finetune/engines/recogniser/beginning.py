"""The network that a run begins with: new weights, or those of another run's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.engines.base import Notice, Teller, TrainingFailed, TrainSpec
from finetune.engines.configs import OcrRecognitionConfig
from finetune.engines.recogniser.characters import Alphabet
from finetune.engines.recogniser.learner import ALPHABET, Learner
from finetune.engines.recogniser.network import Model
from ocr.engines.torch_library import import_torch

torch = import_torch()
WEIGHTS = "model.safetensors"
# Layers with a row a class.
LAST = [
    f"{layer}.{part}"
    for layer in ("network.choose", "network.glance")
    for part in ("weight", "bias")
]


def sizes_of(config: OcrRecognitionConfig) -> dict[str, int]:
    """What the network is built with, beside the number of its classes."""
    return {"height": config.height, "channels": config.channels, "hidden": config.hidden}


def learner_make(
    spec: TrainSpec, config: OcrRecognitionConfig, alphabet: Alphabet, teller: Teller
) -> Learner:
    """Raises TrainingFailed where the other run's weights are of another size."""
    torch.manual_seed(config.seed)
    learner = Learner(Model(alphabet.classes, **sizes_of(config)))
    if spec.begin_with and not spec.resume:
        _take(Path(spec.begin_with), learner, alphabet, teller)
    return learner


def weights_load(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(checkpoint / WEIGHTS)


def _take(checkpoint: Path, learner: Learner, alphabet: Alphabet, teller: Teller) -> None:
    """Its weights; of the last layer those of the characters that both tell apart."""
    if not (checkpoint / ALPHABET).is_file():
        raise TrainingFailed(
            f"{checkpoint.name} is no checkpoint of a recogniser. Choose a run of method "
            "ocr-recognition in 'resume_from'.",
            code="bad_model",
        )
    theirs = Alphabet(json.loads((checkpoint / ALPHABET).read_text(encoding="utf-8")))
    weights, own = weights_load(checkpoint), learner.state_dict()
    rows = {letter: place for place, letter in enumerate(theirs.characters, 1)}
    taken = [0, *(rows.get(letter) for letter in alphabet.characters)]
    for name in LAST:
        last = own[name].clone()
        if weights[name].shape[1:] == last.shape[1:]:
            for place, row in enumerate(taken):
                if row is not None:
                    last[place] = weights[name][row]
            weights[name] = last
    if wrong := [name for name in own if weights[name].shape != own[name].shape]:
        raise TrainingFailed(
            f"The weights to begin with are of a network of another size ({wrong[0]}: "
            f"{list(weights[wrong[0]].shape)} in place of {list(own[wrong[0]].shape)}). Give "
            "'height', 'channels' and 'hidden' as that run had them.",
            code="bad_model",
        )
    learner.load_state_dict(weights)
    new = [letter for letter in alphabet.characters if letter not in rows]
    gone = [letter for letter in theirs.characters if letter not in alphabet.characters]
    if new or gone:
        words = [f"new: {''.join(new)}"] * bool(new) + [f"no longer there: {''.join(gone)}"] * bool(
            gone
        )
        teller.tell(
            Notice(
                level="info",
                message=f"It begins with the weights of {checkpoint.name}; of its characters "
                f"some differ ({'; '.join(words)}).",
            )
        )
