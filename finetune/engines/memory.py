"""How much memory a training will take, by formula. No library is needed.

Counted as in Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer
Models), for layers of Llama's kind, attention without stored scores, and scores of the vocabulary
made a part at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Weights in 4 bits, with a scale for each block of 64 of them.
FOUR_BITS = 0.5 + 4 / 64
# Positions whose scores over the vocabulary are in memory at a time (TRL's fused head).
SCORED_AT_A_TIME = 256
# Of the process itself: interpreter, torch, libraries; on a GPU its context and workspaces.
PROCESS_BYTES, CONTEXT_BYTES = 600 * 1024**2, 1200 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What counts of a model: weights in all and to be trained, and the sizes of its layers."""

    parameters: int
    trainable: int
    hidden: int
    layers: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any], *, parameters: int = 0, trainable: int = 0) -> Shape:
        """From a config.json; without `parameters` they are reckoned from it too."""
        config = config.get("text_config") or config
        hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
        layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
        intermediate = config.get("intermediate_size") or config.get("n_inner") or 4 * hidden
        vocabulary = int(config.get("vocab_size") or 0)
        parameters = parameters or _parameters(config, hidden, layers, intermediate, vocabulary)
        return cls(
            parameters=parameters,
            trainable=trainable or parameters,
            hidden=hidden,
            layers=layers,
            intermediate=int(intermediate),
            vocabulary=vocabulary,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes, by what they hold."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    process: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, int]:
        return asdict(self) | {"total": self.total}


def estimate(
    shape: Shape,
    *,
    dtype: str,
    adapter: str,
    batch: int,
    length: int,
    checkpointing: bool = False,
    pairs: bool = False,
    gpu: bool = False,
) -> Estimate:
    """`batch` rows of `length` tokens a device. `pairs`: DPO, two answers a row and a reference."""
    frozen = 0 if adapter == "full" else shape.parameters
    each = FOUR_BITS if adapter == "qlora" else BYTES[dtype]
    # What is trained is kept in float32, whatever is calculated in.
    weights = frozen * each + shape.trainable * 4
    if pairs and adapter == "full":
        weights += shape.parameters * BYTES[dtype]
    tokens = batch * length * (2 if pairs else 1)
    return Estimate(
        weights=round(weights),
        gradients=shape.trainable * 4,
        # Adam's two moments.
        optimizer=shape.trainable * 8,
        activations=round(_activations(shape, tokens, BYTES[dtype], checkpointing)),
        process=CONTEXT_BYTES if gpu else PROCESS_BYTES,
    )


def _activations(shape: Shape, tokens: int, each: int, checkpointing: bool) -> float:
    """Of a layer: its input, two norms, queries, keys, values, attention, and the MLP's four."""
    layer = tokens * each * (9 * shape.hidden + 4 * shape.intermediate)
    kept = tokens * each * shape.hidden * shape.layers + layer
    through = kept if checkpointing else layer * shape.layers
    scores = min(tokens, SCORED_AT_A_TIME) * shape.vocabulary * 4 * 3
    return through + scores


def _parameters(
    config: Mapping[str, Any], hidden: int, layers: int, intermediate: int, vocabulary: int
) -> int:
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or hidden // heads)
    attention = 2 * hidden * heads * size + 2 * hidden * kv_heads * size
    gated = 3 if config.get("model_type") != "gpt2" else 2
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 1)
    layer = attention + gated * hidden * intermediate * experts + 2 * hidden
    tied = config.get("tie_word_embeddings", True)
    return layers * layer + (1 if tied else 2) * vocabulary * hidden + hidden


def available_bytes() -> int:
    """RAM that this process may still take: of the machine, or of its control group."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = os.sysconf("SC_AVPHYS_PAGES") * page
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:
        return found
    return found if most == "max" else min(found, max(0, int(most) - used))


def resident_bytes() -> int:
    """RAM that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_words(count: float) -> str:
    """4.2 GB"""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
