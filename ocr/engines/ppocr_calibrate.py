"""Measures the ranges in `ppocr_int8.json`: python -m ocr.engines.ppocr_calibrate PAGE…

The pages should look like what will be read, worn and clean; none of them is kept.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from PIL import Image

from ocr.engines import ppocr
from ocr.engines.ppocr_int8 import CALIBRATION, Ranges, best_range
from ocr.engines.ppocr_openvino import OpenVinoNetworks, from_bytes
from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT = 960
# Places drawn from each image and layer.
_PLACES = 40
# Of fewer products a place, a convolution isn't worth it.
_WORTH = 2_000


def measure(path: Path, images: Iterable[np.ndarray]) -> Ranges:
    """Ranges of what flows into each convolution worth quantising, over uint8 BGR batches."""
    core = ov.Core()
    model = from_bytes(core.read_model(path))
    layers = [node for node in model.get_ordered_ops() if _worth(node)]
    taps = [ops.result(node.input_value(0)) for node in layers]
    network = core.compile_model(
        ov.Model(taps, model.get_parameters(), "taps"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    request = network.create_infer_request()
    random = np.random.default_rng(0)
    seen: dict[str, list[np.ndarray]] = {node.get_friendly_name(): [] for node in layers}
    spread = set()
    for image in images:
        request.infer([image])
        for number, name in enumerate(seen):
            flow = request.get_output_tensor(number).data[0]
            channels = flow.reshape(flow.shape[0], -1)
            # A squeezed layer is one place whatever the image; it is cheap, and touchy.
            if channels.shape[1] > 1:
                spread.add(name)
            places = random.permutation(channels.shape[1])[:_PLACES]
            seen[name].append(channels[:, places].ravel())
    return {name: best_range(np.concatenate(seen[name])) for name in seen if name in spread}


def _worth(node: ov.Node) -> bool:
    if node.get_type_name() != "Convolution":
        return False
    shape = node.input_value(1).get_node().get_output_shape(0)
    return shape[1] > 3 and int(np.prod(shape)) >= _WORTH


def main() -> None:
    detection, recognition = (
        wheel_model(name, engine="rapidocr") for name in (DETECTION, RECOGNITION)
    )
    networks = OpenVinoNetworks(detection, recognition, threads=2, precision="f32", cache_dir=None)
    pages, lines = [], []
    for name in sys.argv[1:]:
        page = ppocr.bgr(np.asarray(Image.open(name).convert("RGB")))
        height, width = page.shape[:2]
        pages.append(ppocr.detector_input(page, _LIMIT))
        boxes = ppocr.find_boxes(networks.detect(pages[-1]), width, height, ppocr.Boxes())
        crops = [ppocr.crop(page, box) for box in boxes]
        lines += [batch for _, batch in ppocr.batches(crops, 1)]
    known = json.loads(CALIBRATION.read_text()) if CALIBRATION.exists() else {}
    for path, images in ((detection, pages), (recognition, lines)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        ranges = measure(path, images)
        known[digest] = {name: [round(v, 5) for v in pair] for name, pair in ranges.items()}
    CALIBRATION.write_text(_readable(known))


def _readable(known: dict[str, dict[str, list[float]]]) -> str:
    """As JSON with a layer a line."""
    models = (
        f' "{digest}": {{\n'
        + ",\n".join(f'  "{name}": {json.dumps(pair)}' for name, pair in layers.items())
        + "\n }"
        for digest, layers in known.items()
    )
    return "{\n" + ",\n".join(models) + "\n}\n"


if __name__ == "__main__":
    main()
