"""PP-OCR's networks on onnxruntime: the way where OpenVINO is not installed, and on GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
)

from mlops.exceptions import EngineUnavailable
from ocr.engines.device import CPU, cuda_number

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from ocr.engines.rapidocr import Answer, Recogniser

_PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxNetworks:
    """A detector and a recogniser; a session may be run from several threads at once.

    `device`: `cpu` or `cuda:N`. `providers`: on a GPU, which of `tensorrt` and `cuda` may take a
    layer, the first that can. `cache_dir` keeps TensorRT's engines, which take minutes to build.
    """

    def __init__(
        self,
        detection: Path,
        recognition: Path,
        *,
        threads: int,
        device: str = CPU,
        providers: Sequence[str] = ("cuda",),
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        """Raises EngineUnavailable if a provider or its libraries are missing."""
        self.device = f"{device} onnxruntime f32"
        if device != CPU:
            self.device = f"{device} onnxruntime {'+'.join(providers)} f32"
        self._detector, self._recogniser = (
            open_session(
                path, threads=threads, device=device, providers=providers, cache_dir=cache_dir
            )
            for path in (detection, recognition)
        )
        metadata = self._recogniser.get_modelmeta().custom_metadata_map
        if "character" not in metadata:
            raise EngineUnavailable(
                f"{recognition} carries no dictionary: no 'character' in its metadata."
            )
        # CTC's blank stands before the dictionary, a space after it.
        self.characters = ["", *metadata["character"].splitlines(), " "]

    def detect(self, page: np.ndarray) -> np.ndarray:
        """uint8 BGR (1, h, w, 3) -> probability of text, float32 (h, w)."""
        return run(self._detector, page)[0, 0]

    def recogniser(self, keep: np.ndarray | None) -> Recogniser:
        """Choosing among some of the columns gives the text that a cut network would give.

        The cut itself would save time, but editing the file needs the onnx package.
        """

        def read(batches: list[np.ndarray]) -> list[Answer]:
            answers = []
            for batch in batches:
                scores = run(self._recogniser, batch)
                if keep is not None:
                    scores = scores[:, :, keep]
                    scores /= scores.sum(axis=2, keepdims=True)
                answers.append((scores.argmax(axis=2), scores.max(axis=2)))
            return answers

        return read


def open_session(
    path: str | os.PathLike[str],
    *,
    threads: int,
    device: str = CPU,
    providers: Sequence[str] = ("cuda",),
    cache_dir: str | os.PathLike[str] | None = None,
) -> onnxruntime.InferenceSession:
    """A session that runs where it was asked to: onnxruntime by itself falls back in silence."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    chosen: list[Any] = []
    if device != CPU:
        chosen = [_provider(name, device, cache_dir) for name in providers]
        # NVIDIA's libraries are found in their wheels, too.
        onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=[*chosen, "CPUExecutionProvider"]
        )
    except (NoSuchFile, InvalidProtobuf, InvalidGraph, Fail) as error:
        raise EngineUnavailable(f"onnxruntime can't load {path}: {error}") from error
    for name, _ in chosen:
        if name not in session.get_providers():
            raise EngineUnavailable(
                f"onnxruntime's {name} could not be loaded: its libraries are missing, or do not "
                "fit the driver. pip install 'onnxruntime-gpu[cuda,cudnn]' brings CUDA's, "
                "pip install tensorrt TensorRT's."
            )
    return session


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """uint8 BGR (n, h, w, 3) -> what PP-OCR's network makes of it, its only output."""
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    pixels /= 127.5
    pixels -= 1
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _provider(
    name: str, device: str, cache_dir: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any]]:
    if name not in _PROVIDERS:
        raise EngineUnavailable(
            f"onnxruntime has no provider '{name}'. Choose among: {', '.join(_PROVIDERS)}."
        )
    if _PROVIDERS[name] not in onnxruntime.get_available_providers():
        raise EngineUnavailable(
            f"The provider '{name}' needs onnxruntime-gpu, which takes the place of onnxruntime: "
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        )
    options: dict[str, Any] = {"device_id": cuda_number(device)}
    if name == "cuda":
        # Lines come in many widths, and an exhaustive search is done anew for each.
        options["cudnn_conv_algo_search"] = "HEURISTIC"
    elif cache_dir is not None:
        options["trt_engine_cache_enable"] = options["trt_timing_cache_enable"] = True
        options["trt_engine_cache_path"] = options["trt_timing_cache_path"] = str(cache_dir)
    return _PROVIDERS[name], options
