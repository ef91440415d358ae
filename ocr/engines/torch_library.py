"""torch, made ready for the libraries that stand on it."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

_OPERATORS = ("nms", "qnms")
_importing = Lock()
_declared: list[Any] = []


def import_torch() -> Any:
    """torch, with torchvision importable beside it. Call it before any library that imports them.

    The torchvision of package indexes is built for CUDA. Beside a CPU build of torch its compiled
    operators can't be loaded, and importing it fails where it names one of them; and with it fail
    easyocr, transformers and peft. None of these calls the operators, so declaring them is enough.
    """
    with _importing:
        torch = importlib.import_module("torch")
        vision = find_spec("torchvision")
        if vision is None or vision.origin is None or _declared:
            return torch
        for compiled in Path(vision.origin).parent.glob("_C*.so"):
            try:
                torch.ops.load_library(compiled)
            except OSError:
                library = torch.library.Library("torchvision", "DEF")
                for name in _OPERATORS:
                    library.define(
                        f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    )
                # Kept, because a library takes its operators along when it is collected.
                _declared.append(library)
        return torch
