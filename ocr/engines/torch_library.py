"""torch, made ready for the libraries that stand on it."""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

_OPERATORS = ("nms", "qnms")
# Threads that share a product spin at its end until the last is done: by default for milliseconds,
# where there are as many as cores. On cores that they share with web, broker and database the one
# waited for is the one that gets no core: a worker then took nine times as long for a token. This
# is libgomp's own figure for more threads than cores.
_SPINS = "1000"
_importing = Lock()
_declared: list[Any] = []


def import_torch() -> Any:
    """torch, with torchvision importable beside it. Call it before any library that imports them.

    The torchvision of package indexes is built for CUDA. Beside a CPU build of torch its compiled
    operators can't be loaded, and importing it fails where it names one of them; and with it fail
    easyocr, transformers and peft. None of these calls the operators, so declaring them is enough.
    """
    with _importing:
        # Read when the library is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
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
