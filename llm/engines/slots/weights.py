"""Linear layers as this machine multiplies them fastest, and LoRA's part in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ocr.engines.torch_library import import_torch

torch = import_torch()


class Linear:
    """Several linear layers of one input as a single product.

    On CPUs the weight is laid out once for oneDNN, in blocks, which halves the time of small
    batches; a row's result does not depend on the rows beside it. Source of the layout:
    `torch.ops.mkldnn`, which torch's own compiler uses for frozen weights.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        """`parts`: torch.nn.Linear modules of the same input."""
        weight = torch.cat([part.weight.detach() for part in parts])
        self.sizes = tuple(part.weight.shape[0] for part in parts)
        self.inputs = weight.shape[1]
        self.bytes = weight.numel() * weight.element_size()
        self._bias = None
        if any(part.bias is not None for part in parts):
            self._bias = torch.cat(
                [
                    part.weight.new_zeros(part.weight.shape[0])
                    if part.bias is None
                    else part.bias.detach()
                    for part in parts
                ]
            )
        packs = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._packed = packs and weight.dtype in (torch.float32, torch.bfloat16)
        if self._packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._weight = weight

    def __call__(self, x: Any) -> Any:
        """(rows, inputs) -> (rows, sum of sizes)."""
        if self._packed:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return torch.nn.functional.linear(x, self._weight, self._bias)


@dataclass(frozen=True, slots=True)
class LowRank:
    """LoRA's part of a `Linear`: what is added is `x @ down @ up`, the scale taken in.

    `down`: (inputs, ranks of all parts), `up`: (ranks, sum of sizes), zero where a rank belongs
    to another part.
    """

    down: Any
    up: Any

    def add_to(self, y: Any, x: Any, rows: Any | None) -> None:
        """Adds to `rows` of y in place, to all if None."""
        if rows is None:
            y.addmm_(x @ self.down, self.up)
        else:
            y.index_add_(0, rows, (x.index_select(0, rows) @ self.down) @ self.up)
