"""PP-OCR's networks on onnxruntime: the way where OpenVINO is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from mlops.exceptions import EngineUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from ocr.engines.rapidocr import Answer, Recogniser


class OnnxNetworks:
    """A detector and a recogniser; a session may be run from several threads at once."""

    def __init__(self, detection: Path, recognition: Path, *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self._detector, self._recogniser = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in (detection, recognition)
        )
        metadata = self._recogniser.get_modelmeta().custom_metadata_map
        if "character" not in metadata:
            raise EngineUnavailable(
                f"{recognition} carries no dictionary: no 'character' in its metadata."
            )
        # CTC's blank stands before the dictionary, a space after it.
        self.characters = ["", *metadata["character"].splitlines(), " "]
        self.device = "cpu onnxruntime f32"

    def detect(self, page: np.ndarray) -> np.ndarray:
        """uint8 BGR (1, h, w, 3) -> probability of text, float32 (h, w)."""
        return _run(self._detector, page)[0, 0]

    def recogniser(self, keep: np.ndarray | None) -> Recogniser:
        """Choosing among some of the columns gives the text that a cut network would give.

        The cut itself would save time, but editing the file needs the onnx package.
        """

        def read(batches: list[np.ndarray]) -> list[Answer]:
            answers = []
            for batch in batches:
                scores = _run(self._recogniser, batch)
                if keep is not None:
                    scores = scores[:, :, keep]
                    scores /= scores.sum(axis=2, keepdims=True)
                answers.append((scores.argmax(axis=2), scores.max(axis=2)))
            return answers

        return read


def _run(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    pixels /= 127.5
    pixels -= 1
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]
