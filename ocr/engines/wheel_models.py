"""The PP-OCR networks that rapidocr's wheel carries, found without importing it (0.7 s)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mlops.exceptions import EngineUnavailable, NotInstalled

DETECTION = "PP-OCRv6_det_small.onnx"
RECOGNITION = "PP-OCRv6_rec_small.onnx"


def wheel_model(name: str, *, engine: str) -> Path:
    """The file. Raises EngineUnavailable, naming what installs it, if it isn't there."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise NotInstalled(
            f"The {engine} engine takes {name} from rapidocr's wheel: "
            "pip install -r requirements/ocr.txt"
        )
    path = Path(spec.origin).parent / "models" / name
    if not path.is_file():
        raise EngineUnavailable(
            f"The {engine} engine lacks the model file {path}: pip install -r requirements/ocr.txt"
        )
    return path
