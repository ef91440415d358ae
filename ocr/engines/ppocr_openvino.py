"""PP-OCR's networks on OpenVINO, rewired so that bytes go in and character numbers come out.

Scaling the pixels, choosing the best character and cutting the alphabet are done inside the
graph: no array of 18,710 probabilities a step leaves it.
"""

from __future__ import annotations

import re
from collections import Counter
from threading import local
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from mlops.exceptions import EngineUnavailable
from ocr.engines.ppocr_int8 import quantise, ranges_of

if TYPE_CHECKING:
    from pathlib import Path

    from ocr.engines.rapidocr import Answer, Recogniser


class OpenVinoDetector:
    """PP-OCR's detector, each thread with a request of its own."""

    def __init__(
        self, detection: Path, *, threads: int, precision: str, cache_dir: str | None
    ) -> None:
        self._core = ov.Core()
        if cache_dir is not None:
            self._core.set_property({"CACHE_DIR": cache_dir})
        self._threads = threads
        # Pinned processes land on the same cores: two of one thread then halve each other.
        self._config = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if precision in ("f32", "bf16"):
            self._config["INFERENCE_PRECISION_HINT"] = precision
        self._int8 = precision in ("auto", "int8") and _has_int8(self._core)
        self._detector = self._compile(_plain_tail(self._read(detection)), streams=1)
        self._requests = local()
        self.device = f"cpu openvino {_kernels(self._detector)}"

    def detect(self, page: np.ndarray) -> np.ndarray:
        """uint8 BGR (1, h, w, 3) -> probability of text, float32 (h, w)."""
        if not hasattr(self._requests, "detector"):
            self._requests.detector = self._detector.create_infer_request()
        request = self._requests.detector
        request.infer([page], share_inputs=True)
        return np.array(request.get_output_tensor(0).data[0, 0], np.float32)

    def _read(self, path: Path) -> ov.Model:
        """The file's network, in 8-bit integers where they are wanted and its ranges are known."""
        model = self._core.read_model(path)
        return quantise(model, ranges_of(path)) if self._int8 else model

    def _compile(self, model: ov.Model, streams: int) -> ov.CompiledModel:
        """`model` taking bytes."""
        return self._core.compile_model(
            from_bytes(model), "CPU", {**self._config, "NUM_STREAMS": streams}
        )


class OpenVinoNetworks(OpenVinoDetector):
    """One detector, and as many recognisers as there are alphabets in use."""

    def __init__(
        self,
        detection: Path,
        recognition: Path,
        *,
        threads: int,
        precision: str,
        cache_dir: str | None,
    ) -> None:
        super().__init__(detection, threads=threads, precision=precision, cache_dir=cache_dir)
        self._recognition = recognition
        self.characters = _characters(self._core.read_model(recognition), recognition)

    def recogniser(self, keep: np.ndarray | None) -> Recogniser:
        """A recogniser that chooses among the characters `keep` alone, or among all."""
        model = _best_characters(self._read(self._recognition), keep)
        # A line is too little work to share between threads; lines are read side by side instead.
        return _LineReader(self._compile(model, streams=self._threads), self._threads)


class _LineReader:
    """Sends batches of lines to the network, as many at a time as it has streams."""

    def __init__(self, network: ov.CompiledModel, streams: int) -> None:
        self._network = network
        self._streams = streams
        # A request holds the buffers of one inference, so no two threads may share one.
        self._local = local()

    def __call__(self, batches: list[np.ndarray]) -> list[Answer]:
        if not hasattr(self._local, "requests"):
            made = [self._network.create_infer_request() for _ in range(self._streams)]
            self._local.requests = made
        requests = self._local.requests
        answers = []
        for start in range(0, len(batches), len(requests)):
            busy = list(zip(requests, batches[start : start + len(requests)], strict=False))
            for request, batch in busy:
                request.start_async([batch], share_inputs=True)
            for request, _ in busy:
                request.wait()
                indices, probabilities = (request.get_output_tensor(n).data[..., 0] for n in (0, 1))
                answers.append((indices.copy(), probabilities.copy()))
        return answers


def _characters(model: ov.Model, path: Path) -> list[str]:
    """The dictionary in the file's metadata, with CTC's blank before it and a space after it."""
    if not model.has_rt_info(["framework", "character"]):
        raise EngineUnavailable(f"{path} carries no dictionary: no 'character' in its metadata.")
    return ["", *model.get_rt_info(["framework", "character"]).value.splitlines(), " "]


def from_bytes(model: ov.Model) -> ov.Model:
    """The same network taking uint8 (n, h, w, 3), scaled to -1 … 1 inside."""
    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(127.5).scale(127.5)
    return steps.build()


def _best_characters(model: ov.Model, keep: np.ndarray | None) -> ov.Model:
    """The recogniser ending in (best index, its probability) instead of all probabilities.

    With `keep`, the last layer keeps those columns alone, and the indices count within them.
    """
    logits = model.outputs[0].get_node().input_value(0).get_node().input_value(0)
    if keep is not None:
        add = logits.get_node()
        while add.get_type_name() != "Add":
            add = add.input_value(0).get_node()
        product, bias = (add.input_value(n).get_node() for n in (0, 1))
        weight = product.input_value(1).get_node()
        columns = ops.constant(np.ascontiguousarray(weight.data[:, keep]))
        biases = ops.constant(np.ascontiguousarray(bias.data[keep]))
        logits = ops.add(ops.matmul(product.input_value(0), columns, False, False), biases)
    best = ops.topk(ops.softmax(logits, 2), ops.constant(1), 2, "max", "none")
    results = [ops.result(best.output(1)), ops.result(best.output(0))]
    return ov.Model(results, model.get_parameters(), "recogniser")


def _plain_tail(model: ov.Model) -> ov.Model:
    """The detector's last two layers, each of which doubles the size, as plain convolutions.

    A transposed convolution whose step is its width spreads each place on its own: the same
    products, taken as channels and laid out as pixels at the end, run several times as fast.
    """
    tail = model.outputs[0].get_node().input_value(0).get_node()
    last = _first(tail, "ConvolutionBackpropData")
    relu = _first(last, "Relu")
    first = _first(relu, "ConvolutionBackpropData")
    weights = [np.array(_first(node, "Constant", 1).data, np.float32) for node in (first, last)]
    biases = [_bias(node) for node in (first, last)]
    inside, middle = weights[0].shape[:2]
    # Channels in the order (row, column, channel) of the first doubling …
    spread = weights[0].transpose(2, 3, 1, 0).reshape(4 * middle, inside, 1, 1)
    wide = ops.convolution(
        first.input_value(0), ops.constant(spread.copy()), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    wide = ops.relu(ops.add(wide, ops.constant(np.tile(biases[0], 4).reshape(1, -1, 1, 1))))
    # … each of which becomes 2 x 2 pixels, numbered by row and column of the 4 x 4 they end in.
    finest = np.zeros((16, 4 * middle, 1, 1), np.float32)
    for row, column in np.ndindex(4, 4):
        place = (row // 2 * 2 + column // 2) * middle
        taken = weights[1][:, 0, row % 2, column % 2]
        finest[row * 4 + column, place : place + middle, 0, 0] = taken
    fine = ops.convolution(wide, ops.constant(finest), [1, 1], [0, 0], [0, 0], [1, 1])
    fine = ops.sigmoid(ops.add(fine, ops.constant(biases[1].reshape(1, 1, 1, 1))))
    pixels = ops.depth_to_space(fine, "blocks_first", 4)
    return ov.Model([ops.result(pixels)], model.get_parameters(), "detector")


def _first(node: ov.Node, kind: str, port: int = 0) -> ov.Node:
    """The nearest node of a kind before `node`, along its inputs numbered `port`, then 0."""
    node = node.input_value(port).get_node()
    while node.get_type_name() != kind:
        node = node.input_value(0).get_node()
    return node


def _bias(convolution: ov.Node) -> np.ndarray:
    node = convolution
    while node.get_type_name() != "Add":
        node = next(iter(node.output(0).get_target_inputs())).get_node()
    return np.array(_first(node, "Constant", 1).data, np.float32).ravel()


def _has_int8(core: ov.Core) -> bool:
    return "INT8" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _kernels(network: ov.CompiledModel) -> str:
    """What OpenVINO chose, as its own convolutions say: `int8 avx512`, `bf16 avx512`."""
    kinds: Counter[str] = Counter()
    for node in network.get_runtime_model().get_ops():
        about = node.get_rt_info()
        if "onvolution" in about["layerType"].value:
            kinds[about["primitiveType"].value] += 1
    if not kinds:
        return str(network.get_property("INFERENCE_PRECISION_HINT"))
    common = kinds.most_common(1)[0][0]
    isa = re.search(r"(avx\w*?amx|avx512|avx2|sse\d*|neon|sve|acl)", common)
    number = common.rsplit("_", 1)[-1].lower().replace("i8", "int8")
    return " ".join(filter(None, (number, isa and isa[0])))
