"""The network as an ONNX graph for lines of any number and width, normalisation folded in.

Written node by node: of PyTorch's two exporters one takes half a minute for it, and the other is to
be removed. The parity check of every training compares the graph with the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from finetune.engines.recogniser.network import Model
from ocr.engines.torch_library import import_torch

torch = import_torch()

OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT = "lines", "scores"
# PyTorch's gates are input, forget, cell, output; ONNX's input, output, forget, cell.
GATES = (0, 3, 1, 2)


def onnx_write(network: Model, path: Path, *, height: int, metadata: dict[str, str]) -> None:
    """`lines`, float (n, 1, height, w) from -1 to 1 -> `scores`, (n, w / 4, classes)."""
    graph = _Graph()
    seen = graph.steps(graph.layers([*network.begin, *network.see], INPUT))
    glanced = graph.linear(network.glance, graph.node("Transpose", seen, perm=[1, 0, 2]))
    chosen = graph.linear(network.choose, graph.recurrent(network.read, seen))
    graph.node("Add", glanced, chosen, named=OUTPUT)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "recogniser",
            [_value(INPUT, ["n", 1, height, "w"])],
            [_value(OUTPUT, ["n", "steps", network.choose.out_features])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


class _Graph:
    """Nodes in order, each with one output that the next ones name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def layers(self, layers: list[torch.nn.Module], seen: str) -> str:
        for place, layer in enumerate(layers):
            if isinstance(layer, torch.nn.Conv2d):
                seen = self._convolution(layer, layers[place + 1], seen)
            elif isinstance(layer, torch.nn.ReLU):
                seen = self.node("Relu", seen)
            elif isinstance(layer, torch.nn.MaxPool2d):
                seen = self.node("MaxPool", seen, **_pool(layer.kernel_size))
        return seen

    def _convolution(self, layer: Any, norm: Any, seen: str) -> str:
        """With the normalisation that follows it: a scale and a shift of each channel."""
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = self.weight(layer.weight * scale[:, None, None, None])
        bias = self.weight(norm.bias - norm.running_mean * scale)
        return self.node(
            "Conv",
            seen,
            weight,
            bias,
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=list(layer.padding) * 2,
        )

    def steps(self, seen: str) -> str:
        """(n, channels, rows, steps) -> (steps, n, values)."""
        return self._joined(self.node("Transpose", seen, perm=[3, 0, 1, 2]))

    def linear(self, layer: torch.nn.Linear, seen: str) -> str:
        product = self.node("MatMul", seen, self.weight(layer.weight.T))
        return self.node("Add", product, self.weight(layer.bias))

    def recurrent(self, layer: torch.nn.LSTM, seen: str) -> str:
        """(steps, n, values) -> (n, steps, 2 hidden)."""
        ways = [
            [getattr(layer, f"{kind}_l0{way}") for kind in ("weight_ih", "weight_hh")]
            + [torch.cat([_gates(getattr(layer, f"bias_{kind}_l0{way}")) for kind in ("ih", "hh")])]
            for way in ("", "_reverse")
        ]
        given = [
            self.weight(torch.stack([_gates(one), _gates(other)]))
            for one, other in zip(ways[0][:2], ways[1][:2], strict=True)
        ]
        biases = self.weight(torch.stack([ways[0][2], ways[1][2]]))
        read = self.node(
            "LSTM",
            seen,
            *given,
            biases,
            direction="bidirectional",
            hidden_size=layer.hidden_size,
        )
        return self._joined(self.node("Transpose", read, perm=[2, 0, 1, 3]))

    def _joined(self, seen: str) -> str:
        """The last two dimensions as one."""
        shape = self._constant(np.array([0, 0, -1], np.int64))
        return self.node("Reshape", seen, shape)

    def node(self, kind: str, *inputs: str, named: str = "", **attributes: Any) -> str:
        output = named or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, tensor: torch.Tensor) -> str:
        return self._constant(np.ascontiguousarray(tensor.detach().float().cpu().numpy()))

    def _constant(self, values: np.ndarray) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name


def _gates(tensor: torch.Tensor) -> torch.Tensor:
    parts = tensor.chunk(4)
    return torch.cat([parts[gate] for gate in GATES])


def _pool(size: int | tuple[int, int]) -> dict[str, list[int]]:
    sides = [size, size] if isinstance(size, int) else list(size)
    return {"kernel_shape": sides, "strides": sides}


def _value(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
