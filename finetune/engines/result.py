"""What a training leaves: the model in MLflow's form, an adapter without its base's weights."""

from __future__ import annotations

import importlib
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune.engines.language import Base
from mlops.tracking import save_language_model
from ocr.engines.torch_library import import_torch

torch = import_torch()
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def bare(trainer: Any) -> Any:
    """The trained model, out of what several processes wrap it in."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if is_adapter(model) and "ref" in model.peft_config:
        # The answers before, that DPO has compared with.
        model.delete_adapter("ref")
    return model.eval()


def is_adapter(model: Any) -> bool:
    return isinstance(model, importlib.import_module("peft").PeftModel)


def weights_restore(trainer: Any, checkpoint: Path) -> None:
    """Puts a checkpoint's weights into the trained model."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    safetensors = importlib.import_module("safetensors.torch")
    if is_adapter(model):
        peft = importlib.import_module("peft")
        weights = safetensors.load_file(checkpoint / "adapter_model.safetensors")
        peft.set_peft_model_state_dict(model, weights)
        return
    trainer._load_from_checkpoint(str(checkpoint), model)


def save(folder: Path, model: Any, base: Base) -> dict[str, Any]:
    """Writes `folder` anew; facts for the model card."""
    shutil.rmtree(folder, ignore_errors=True)
    model.config.use_cache = True
    # Without what tells a build for CPUs from others: indexes don't know it.
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in LIBRARIES]
    if is_adapter(model):
        model.peft_config["default"].base_model_name_or_path = base.root
    local = base.root if is_adapter(model) and Path(base.root).is_dir() else ""
    save_language_model(
        folder, model=model, tokenizer=base.tokenizer, base=local, requirements=requirements
    )
    parameters = sum(one.numel() for one in model.parameters())
    return {
        "kind": "adapter" if is_adapter(model) else "model",
        "parameters": parameters,
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": torch.cuda.get_device_name() if base.place.device == "cuda" else "cpu",
        "dtype": base.place.dtype,
    }
