"""PaddleOCR 3: on onnxruntime with models on disk, or on Paddle where that is installed.

Nothing is fetched unless `download` says so: by default it runs the PP-OCRv6 files that rapidocr's
wheel carries.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import device as devices
from ocr.engines import paddleocr_models as models
from ocr.engines.base import Line, Reading
from ocr.engines.rapidocr import RapidOcrEngine
from ocr.engines.spans import word_spans
from ocr.engines.torch_library import import_torch
from ocr.languages import AUTO

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np

    from ocr.engines.base import Polygon

# The steps before the two networks need models of their own, and the platform turns pages itself.
_DEFAULTS: dict[str, Any] = {
    "use_doc_orientation_classify": False,
    "use_doc_unwarping": False,
    "use_textline_orientation": False,
    "text_det_limit_side_len": 960,
    "text_det_limit_type": "max",
    "return_word_box": True,
}


class PaddleOcrEngine:
    """PaddleOCR's own pipeline, with its own option names.

    Beside those below, any parameter of `paddleocr.PaddleOCR` is an option: each model's `_name`
    and `_dir`, each threshold. A model with a folder is read from there; one with a name alone
    comes from a model hub, and only with `download`. `languages` says what the models chosen read.
    """

    name: ClassVar[str] = "paddleocr"
    requirements: ClassVar[str] = "ocr-paddle.txt"
    languages: ClassVar[frozenset[str]] = RapidOcrEngine.languages
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        threads: int | None = None,
        device: str = devices.AUTO,
        backend: Literal["auto", "onnxruntime", "paddle"] = "auto",
        download: bool = False,
        languages: Collection[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """`cache_dir` is where PaddleOCR keeps what it downloads. Raises EngineUnavailable."""
        own = not (download or models.names_a_model(options))
        if backend == "auto":
            # The models in rapidocr's wheel are ONNX.
            backend = "paddle" if find_spec("paddle") and not own else "onnxruntime"
        _require_installed(backend)
        if not download and not own:
            options |= models.local_models(options, backend)
        where = _choose_device(backend, device)
        threads = threads or len(os.sched_getaffinity(0))
        library = _import_paddleocr(cache_dir)
        _require_known(library, options)
        with TemporaryDirectory(prefix="paddleocr-") as folder:
            if own:
                options |= models.wheel_models(Path(folder))
            self.model_version = models.version(options)
            self.models = models.listed(options)
            self._pipeline = _build(library, _DEFAULTS | options, backend, where, threads)
        # A pipeline keeps what it is working on in itself: pages go through one at a time.
        self._reading = Lock()
        self.installed = self.languages if languages is None else frozenset(languages)
        precision = "f32 " if backend == "onnxruntime" else ""
        self.device = f"{where} {backend} {precision}{threads} thread{'s'[: threads > 1]}"

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). The models, not the languages, decide."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        strange = set(languages) - self.installed - {AUTO}
        if strange or not languages:
            raise ValueError(f"paddleocr can't read {', '.join(sorted(strange)) or 'no language'}.")
        # PaddleOCR takes arrays as OpenCV has them.
        page = image[:, :, ::-1].copy()
        with self._reading:
            (result,) = self._pipeline.predict(page)
        texts = result["rec_texts"]
        groups = result.get("text_word", [()] * len(texts))
        boxes = result.get("text_word_region", [()] * len(texts))
        lines, unread = [], []
        for text, score, corners, *words in zip(
            texts, result["rec_scores"], result["rec_polys"], groups, boxes, strict=True
        ):
            polygon = tuple((float(x), float(y)) for x, y in corners)
            if text.strip():
                lines.append(
                    Line(text.strip(), float(score), polygon, _spans(text, *words, polygon))
                )
            else:
                unread.append(polygon)
        return Reading(tuple(lines), "+".join(languages), self.model_version, tuple(unread))

    def close(self) -> None:
        """Frees the pipeline's networks."""
        self._pipeline.close()


def _require_installed(backend: str) -> None:
    installs = {"paddle": "paddlepaddle (or paddlepaddle-gpu)"}
    for library in ("paddleocr", backend):
        if find_spec(library) is None:
            wheel = installs.get(library, "-r requirements/ocr-paddle.txt")
            raise NotInstalled(f"The paddleocr engine needs {library}: pip install {wheel}")


def _import_paddleocr(cache_dir: str | os.PathLike[str] | None) -> Any:
    """The library, told beforehand not to try its hubs and where to keep its files."""
    os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
    if cache_dir is not None:
        os.environ.setdefault("PADDLE_PDX_CACHE_HOME", os.fspath(cache_dir))
    if find_spec("torch"):
        # It imports torch where it finds it.
        import_torch()
    library = importlib.import_module("paddleocr")
    logging.getLogger("paddlex").setLevel(logging.ERROR)
    return library


def _require_known(library: Any, options: dict[str, Any]) -> None:
    known = set(inspect.signature(library.PaddleOCR.__init__).parameters) - {"self", "kwargs"}
    if strange := set(options) - known:
        raise EngineUnavailable(
            f"PaddleOCR has no option {', '.join(sorted(strange))}. It has: "
            f"{', '.join(sorted(known))}."
        )


def _choose_device(backend: str, device: str) -> str:
    """`cpu` or `cuda:N`. Raises EngineUnavailable for what the machine or the backend lacks."""
    if backend == "onnxruntime":
        return devices.choose_ppocr(backend, device)[1]
    device = devices.parse_device(device)
    if device == devices.CPU:
        return device
    offered = importlib.import_module("paddle").device.cuda.device_count()
    if device == devices.AUTO:
        return "cuda:0" if offered else devices.CPU
    devices.require_cuda(device)
    if not offered:
        raise EngineUnavailable(
            f"Device {device} needs paddlepaddle-gpu in place of paddlepaddle, or backend "
            "onnxruntime with onnxruntime-gpu."
        )
    return device


def _build(library: Any, options: dict[str, Any], backend: str, device: str, threads: int) -> Any:
    running: dict[str, Any] = {"device": device.replace("cuda", "gpu"), "engine": backend}
    if backend == "onnxruntime":
        running["engine_config"] = {"intra_op_num_threads": threads, "log_severity_level": 4}
    else:
        running["cpu_threads"] = threads
    try:
        return library.PaddleOCR(**options, **running)
    # What fails in here comes as plain Exception: a hub out of reach, a file that is no network.
    except Exception as error:
        raise EngineUnavailable(f"PaddleOCR could not load its models: {error}") from error


def _spans(
    text: str, groups: Sequence[str], boxes: Sequence[Polygon], polygon: Polygon
) -> tuple[tuple[float, float], ...]:
    """Spans of words, from PaddleOCR's boxes around groups of letters, digits or signs."""
    (x0, y0), (x1, _), (_, y2) = polygon[:3]
    upright = y2 - y0 > 1.5 * (x1 - x0)
    begin, length = (y0, y2 - y0) if upright else (x0, x1 - x0)
    if length <= 0 or len(groups) != len(boxes) or "".join(groups) != text:
        return ()
    places = []
    for group, box in zip(groups, boxes, strict=True):
        along = [(point[upright] - begin) / length for point in box]
        start, step = min(along), (max(along) - min(along)) / max(len(group), 1)
        places += [(start + n * step, start + (n + 1) * step) for n in range(len(group))]
    return word_spans(text, places)
