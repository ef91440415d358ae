"""A model's folder, checked and loaded: what is missing or damaged is named."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llm.engines.base import ModelSource
from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import device as devices
from ocr.engines.torch_library import import_torch

_GENERATING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_QUANTIZED = {"int8": {"load_in_8bit": True}, "int4": {"load_in_4bit": True}}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The library's model and tokenizer; `generates` is False for one that only embeds."""

    model: Any
    tokenizer: Any
    device: str
    generates: bool
    # Where it lies, if it isn't a hub's.
    folder: Path | None


def load(source: ModelSource, *, download: bool) -> Loaded:
    """Raises EngineUnavailable naming the file or library that is missing or damaged."""
    for library in ("torch", "transformers"):
        if find_spec(library) is None:
            raise NotInstalled(
                f"The transformers engine needs {library}: pip install -r requirements/llm.txt "
                "-r requirements/torch.txt"
            )
    folder = local_folder(source.path)
    torch = import_torch()
    where = "map" if source.device == "map" else devices.choose_torch(source.device)
    options: dict[str, Any] = {"local_files_only": folder is not None or not download}
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    safetensors = importlib.import_module("safetensors")
    if folder is not None:
        check_folder(folder)
    try:
        config = transformers.AutoConfig.from_pretrained(source.path, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.path, **options)
        generates = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and not any(
            not name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ()
        )
        loader = transformers.AutoModelForCausalLM if generates else transformers.AutoModel
        model, report = loader.from_pretrained(
            source.path,
            config=config,
            dtype=_dtype(torch, source.dtype, where),
            output_loading_info=True,
            **_placed(source, where),
            **options,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise EngineUnavailable(f"'{source.path}' can't be loaded: {error}") from error
    except safetensors.SafetensorError as error:
        raise EngineUnavailable(f"The weights of '{source.path}' are damaged: {error}") from error
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        some = ", ".join(missing[:3])
        raise EngineUnavailable(
            f"The weights in '{source.path}' are incomplete: {len(missing)} are missing ({some})."
        )
    if where != "map" and not source.quantization:
        model = model.to(where)
    return Loaded(model.eval(), tokenizer, where, generates, folder)


def local_folder(path: str) -> Path | None:
    """The folder that is meant, or None for a hub's name. Raises EngineUnavailable."""
    if not path:
        raise EngineUnavailable("The model names no folder and no hub's model.")
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or path.startswith(".") or path.count("/") > 1:
        raise EngineUnavailable(f"There is no model folder '{path}'.")
    return None


def check_folder(folder: Path) -> None:
    """Raises EngineUnavailable naming the first file that is missing or damaged."""
    _json(folder / "config.json")
    safetensors = importlib.import_module("safetensors")
    files = list(_weight_files(folder))
    for file in files:
        if not file.is_file():
            raise EngineUnavailable(f"The model lacks the file {file}.")
        if file.suffix != ".safetensors":
            continue
        try:
            with safetensors.safe_open(file, framework="numpy") as opened:
                opened.keys()
        except (OSError, safetensors.SafetensorError) as error:
            raise EngineUnavailable(f"The file {file} is damaged: {error}") from error
    for file in folder.glob("tokenizer*.json"):
        _json(file)
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
    if not any((folder / name).is_file() for name in (*names, "sentencepiece.bpe.model")):
        raise EngineUnavailable(f"The model lacks the file {folder / 'tokenizer.json'}.")


def _weight_files(folder: Path) -> Iterator[Path]:
    for kind in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{kind}.index.json"
        if index.is_file():
            weights = _json(index).get("weight_map", {})
            yield from (folder / name for name in sorted(set(weights.values())))
            return
        if (folder / kind).is_file():
            yield folder / kind
            return
    yield folder / "model.safetensors"


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise EngineUnavailable(f"The model lacks the file {file}.") from error
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"The file {file} is damaged: {error}") from error


def _dtype(torch: Any, asked: str, where: str) -> Any:
    """Half the bytes where the hardware multiplies them, else float32."""
    if asked != "auto":
        kinds = {"float32", "bfloat16", "float16"}
        if asked not in kinds:
            raise EngineUnavailable(f"There is no dtype '{asked}': choose auto, {sorted(kinds)}.")
        return getattr(torch, asked)
    if where == devices.CPU:
        quick = {"avx512_bf16", "amx_bf16"} & devices.cpu_flags()
        return torch.bfloat16 if quick else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _placed(source: ModelSource, where: str) -> dict[str, Any]:
    """What from_pretrained is told of devices and bits."""
    placed: dict[str, Any] = {}
    if where == "map":
        if devices.cuda_devices() == 0:
            raise EngineUnavailable("Device map spreads a model over GPUs, and there is none here.")
        placed["device_map"] = "auto"
    if not source.quantization:
        return placed
    if source.quantization not in _QUANTIZED:
        raise EngineUnavailable(
            f"There is no quantization '{source.quantization}': choose int8, int4 or none."
        )
    if where == devices.CPU or find_spec("bitsandbytes") is None:
        raise EngineUnavailable(
            f"{source.quantization} needs a CUDA device and bitsandbytes "
            "(pip install bitsandbytes); without them leave the quantization empty."
        )
    transformers = importlib.import_module("transformers")
    bits = transformers.BitsAndBytesConfig(**_QUANTIZED[source.quantization])
    return {"device_map": placed.get("device_map", {"": where}), "quantization_config": bits}
