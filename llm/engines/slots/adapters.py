"""LoRA adapters of one base: loaded on first use, the least recently used dropped for others."""

from __future__ import annotations

import importlib
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llm.engines.base import AdapterSource
from llm.engines.slots.answer import Ticket
from llm.engines.slots.llama import Llama
from llm.engines.slots.weights import LowRank
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Where each module's part lies in the fused products: (product, which of its parts).
_PLACES = {
    "self_attn.q_proj": ("qkv", 0),
    "self_attn.k_proj": ("qkv", 1),
    "self_attn.v_proj": ("qkv", 2),
    "self_attn.o_proj": ("out", 0),
    "mlp.gate_proj": ("gate_up", 0),
    "mlp.up_proj": ("gate_up", 1),
    "mlp.down_proj": ("down", 0),
}
_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(.+)\.lora_([AB])\.weight")
# Kinds of LoRA that compute something else than x A B.
_OTHERS = ("use_dora", "lora_bias", "use_qalora", "alora_invocation_tokens", "arrow_config")


class Adapter:
    """One adapter's parts, by (layer, product)."""

    def __init__(self, source: AdapterSource, parts: dict[tuple[int, str], LowRank]) -> None:
        self.source, self.parts = source, parts
        # Stands for it in what outlives it: the cache remembers under which one it was read.
        self.mark = object()
        self.bytes = sum(part.down.nbytes + part.up.nbytes for part in parts.values())
        self.users = 0


class AdapterShelf:
    """The adapters in memory. Safe from several threads."""

    def __init__(self, model: Llama | None, *, budget: int, download: bool) -> None:
        """`budget` in bytes."""
        self._model, self._budget, self._download = model, budget, download
        self._lock = threading.Lock()
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(adapter.bytes for adapter in self._adapters.values())

    def take(self, source: AdapterSource) -> Adapter:
        """The adapter, which stays until it is given back. Raises ApplicationError."""
        with self._lock:
            found = self._adapters.get(source.path)
            if found is None:
                found = self._adapters[source.path] = self._load(source)
            self._adapters.move_to_end(source.path)
            found.users += 1
            self._drop()
        return found

    def end(self, ticket: Ticket) -> None:
        """A ticket that has ended needs its adapter no more."""
        if ticket.adapter is not None:
            with self._lock:
                ticket.adapter.users -= 1
                self._drop()

    def _drop(self) -> None:
        """Those that nobody uses, the longest unused first, until the rest fits."""
        held = sum(adapter.bytes for adapter in self._adapters.values())
        for path, adapter in list(self._adapters.items())[:-1]:
            if held <= self._budget:
                return
            if not adapter.users:
                held -= adapter.bytes
                del self._adapters[path]

    def _load(self, source: AdapterSource) -> Adapter:
        if self._model is None:
            raise _unavailable(source, "this model's architecture takes none in this engine")
        try:
            folder = self._folder(source.path)
            config = json.loads((folder / "adapter_config.json").read_bytes())
            safetensors = importlib.import_module("safetensors.torch")
            tensors = safetensors.load_file(folder / "adapter_model.safetensors")
            scales = _scales(config)
            return Adapter(source, _parts(self._model, tensors, scales))
        except importlib.import_module("safetensors").SafetensorError as error:
            raise _unavailable(source, f"adapter_model.safetensors is damaged: {error}") from error
        except FileNotFoundError as error:
            name = error.filename or str(error)
            raise _unavailable(source, f"the file {name} is missing") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unavailable(source, str(error)) from error

    def _folder(self, path: str) -> Path:
        folder = Path(path).expanduser()
        if folder.is_dir() or folder.is_absolute() or path.startswith("."):
            return folder
        hub = importlib.import_module("huggingface_hub")
        return Path(
            hub.snapshot_download(
                path,
                local_files_only=not self._download,
                allow_patterns=["adapter_config.json", "adapter_model.safetensors"],
            )
        )


def _unavailable(source: AdapterSource, why: str) -> ApplicationError:
    return ApplicationError(
        f"The adapter '{source.name}' can't be used: {why}.",
        code="adapter_unavailable",
        param="model",
    )


def _scales(config: Mapping[str, Any]) -> Callable[[str, int], float]:
    """(module's name, rank) -> the factor of A B. Raises ValueError for other kinds of adapters."""
    if config.get("peft_type") != "LORA":
        raise ValueError(f"its kind is {config.get('peft_type')}, and only LORA is known")
    strange = [name for name in _OTHERS if config.get(name)]
    if config.get("bias", "none") != "none":
        strange.append("bias")
    if config.get("modules_to_save"):
        strange.append("modules_to_save")
    if strange:
        raise ValueError(f"it needs {', '.join(strange)}, which is not supported")
    patterns = config.get("alpha_pattern") or {}

    def scale(module: str, rank: int) -> float:
        alpha = next(
            (value for name, value in patterns.items() if re.match(rf"(.*\.)?({name})$", module)),
            config["lora_alpha"],
        )
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    return scale


def _parts(
    model: Llama, tensors: Mapping[str, Any], scales: Callable[[str, int], float]
) -> dict[tuple[int, str], LowRank]:
    """Raises ValueError for tensors that belong to no known module, or don't fit it."""
    found: dict[tuple[int, str], dict[int, dict[str, Any]]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or match[2] not in _PLACES or int(match[1]) >= len(model.layers):
            raise ValueError(f"it changes {name}, which is not supported")
        product, part = _PLACES[match[2]]
        pair = found.setdefault((int(match[1]), product), {}).setdefault(part, {})
        pair["module"] = f"model.layers.{match[1]}.{match[2]}"
        pair[match[3]] = tensor
    if not found:
        raise ValueError("it holds no tensors")
    return {
        place: _fused(model.layers[place[0]].linears[place[1]], pairs, scales, model)
        for place, pairs in found.items()
    }


def _fused(
    linear: Any,
    pairs: Mapping[int, Mapping[str, Any]],
    scales: Callable[[str, int], float],
    model: Llama,
) -> LowRank:
    downs, ups = [], []
    for part, pair in sorted(pairs.items()):
        start = sum(linear.sizes[:part])
        down, up = pair["A"], pair["B"]
        rank = down.shape[0]
        if down.shape != (rank, linear.inputs) or up.shape != (linear.sizes[part], rank):
            raise ValueError(
                f"its {pair['module']} is {tuple(up.shape)} x {tuple(down.shape)}, and the base's "
                f"is {linear.sizes[part]} x {linear.inputs}"
            )
        wide = up.new_zeros(rank, sum(linear.sizes), dtype=torch.float32)
        wide[:, start : start + linear.sizes[part]] = up.float().T
        wide *= scales(pair["module"], rank)
        downs.append(down.float())
        ups.append(wide)
    kind = {"dtype": model.dtype, "device": model.device}
    return LowRank(torch.cat(downs).T.contiguous().to(**kind), torch.cat(ups).to(**kind))
