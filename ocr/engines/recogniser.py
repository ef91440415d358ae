"""A recogniser that was trained here, behind PP-OCR's detector: its ONNX file on onnxruntime.

The detector runs on OpenVINO where that is installed. The recogniser always runs on onnxruntime in
f32, as it was compared with what was trained.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines.base import Line, Polygon, Reading
from ocr.engines.device import AUTO as ANY_DEVICE
from ocr.engines.device import CPU, choose_ppocr
from ocr.engines.recogniser_files import recogniser_files
from ocr.engines.spans import word_spans
from ocr.engines.wheel_models import DETECTION, wheel_model
from ocr.languages import AUTO, LANGUAGES

if TYPE_CHECKING:
    import numpy as np

    from ocr.engines.ppocr import Decoded

LEAST_WIDTH = 8


class RecogniserEngine:
    """Reads the languages that its recogniser was trained for, in the characters it was shown.

    `folder`: what the training has left. `label`: what its version is called in results; without
    it "recogniser". `languages`: ISO codes, in place of those the folder names.
    `recognition_batch`: how many lines of about one width go through together.
    """

    name: ClassVar[str] = "recogniser"
    requirements: ClassVar[str] = "ocr.txt"
    languages: ClassVar[frozenset[str]] = frozenset(LANGUAGES)
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str],
        label: str = "recogniser",
        languages: Collection[str] | None = None,
        threads: int | None = None,
        device: str = ANY_DEVICE,
        backend: str = "auto",
        detection_limit: int = 960,
        recognition_batch: int = 8,
    ) -> None:
        """`backend`, of the detector: auto, onnxruntime, openvino. Raises EngineUnavailable."""
        backend, device = choose_ppocr(backend, device)
        for library in {"onnxruntime", backend, "cv2", "rapidocr"}:
            if find_spec(library) is None:
                raise NotInstalled(
                    f"The recogniser engine needs {library}: pip install -r requirements/ocr.txt"
                )
        self._files = recogniser_files(Path(folder), engine=self.name)
        threads = threads or len(os.sched_getaffinity(0))
        self._steps = importlib.import_module("ocr.engines.ppocr")
        # Its calls are too small to share, and N processes would fight over the cores.
        self._steps.cv2.setNumThreads(1)
        networks = importlib.import_module("ocr.engines.ppocr_onnxruntime")
        self._session = networks.open_session(self._files.network, threads=threads, device=device)
        self._detect, detector = _detector(backend, threads=threads, device=device)
        self._limit, self._batch = detection_limit, recognition_batch
        self._characters = ["", *self._files.characters]
        self.installed = frozenset(languages or self._files.languages)
        self.alphabet = frozenset(self._files.characters)
        self.device = f"{device} onnxruntime f32, detector {detector}"
        if device == CPU:
            self.device += f" {threads} thread{'s'[: threads > 1]}"
        digest = hashlib.sha256(self._files.network.read_bytes()).hexdigest()[:12]
        self.model_version = f"{label} {digest}"
        self.models = (str(self._files.network),)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Lines of any confidence are kept.

        Raises EngineUnavailable for a language that it wasn't trained for.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        if strange := set(languages) - self.installed - {AUTO}:
            raise EngineUnavailable(
                f"{self.model_version} was not trained to read {', '.join(sorted(strange))}: it "
                f"reads {', '.join(sorted(self.installed))}."
            )
        boxes = self._boxes(image)
        lines: list[Line] = []
        unread: list[Polygon] = []
        for box, decoded, spans in zip(boxes, *self._recognised(image, boxes), strict=True):
            polygon = tuple((float(x), float(y)) for x, y in box)
            if decoded.text.strip():
                lines.append(Line(decoded.text.strip(), decoded.confidence, polygon, spans))
            else:
                unread.append(polygon)
        return Reading(tuple(lines), "+".join(languages), self.model_version, tuple(unread))

    def recognise(self, image: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Decoded]:
        """What stands in each box, float32 (4, 2) clockwise from the top left, of the RGB page."""
        return self._recognised(image, boxes)[0]

    def close(self) -> None:
        """Nothing to give back before the engine itself goes."""

    def _boxes(self, image: np.ndarray) -> list[np.ndarray]:
        page = self._steps.bgr(image)
        height, width = page.shape[:2]
        probability = self._detect(self._steps.detector_input(page, self._limit))
        return self._steps.find_boxes(probability, width, height, self._steps.Boxes())

    def _recognised(
        self, image: np.ndarray, boxes: Sequence[np.ndarray]
    ) -> tuple[list[Decoded], list[tuple[tuple[float, float], ...]]]:
        """For each box what it says, and where its words are."""
        cv2 = self._steps.cv2
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        lines = [self._scaled(_cut(self._steps, grey, box)) for box in boxes]
        found: dict[int, Decoded] = {}
        spans: dict[int, tuple[tuple[float, float], ...]] = {}
        for members, batch in self._batches(lines):
            scores = self._session.run(None, {"lines": batch})[0]
            best, sure = scores.argmax(axis=2), _likelihood(self._steps.np, scores)
            for row, index in enumerate(members):
                decoded = self._steps.decode(best[row], sure[row], self._characters)
                places = self._steps.places(
                    decoded,
                    per_step=batch.shape[3] / scores.shape[1],
                    width=lines[index].shape[1],
                )
                found[index], spans[index] = decoded, word_spans(decoded.text, places)
        return [found[n] for n in range(len(boxes))], [spans[n] for n in range(len(boxes))]

    def _scaled(self, line: np.ndarray) -> np.ndarray:
        """As the recogniser was shown lines when it was trained: grey, of its height."""
        files, cv2 = self._files, self._steps.cv2
        width = int(files.height * line.shape[1] / line.shape[0])
        width = min(max(width, LEAST_WIDTH), files.most_width)
        return cv2.resize(line, (width, files.height), interpolation=cv2.INTER_LINEAR)

    def _batches(self, lines: Sequence[np.ndarray]) -> list[tuple[list[int], np.ndarray]]:
        """(indices, float32 (n, 1, h, w) from -1 to 1), each filled up with its last column."""
        np, step = self._steps.np, self._files.width_step
        alike: dict[int, list[int]] = {}
        for index, line in enumerate(lines):
            alike.setdefault(math.ceil(line.shape[1] / step) * step, []).append(index)
        made = []
        for width, indices in sorted(alike.items()):
            for start in range(0, len(indices), self._batch):
                members = indices[start : start + self._batch]
                filled = [
                    np.pad(lines[n], ((0, 0), (0, width - lines[n].shape[1])), mode="edge")
                    for n in members
                ]
                batch = np.stack(filled)[:, None].astype(np.float32)
                made.append((members, batch / 127.5 - 1))
        return made


def _detector(
    backend: str, *, threads: int, device: str
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(uint8 BGR (1, h, w, 3) -> probability of text, float32 (h, w); what it runs on)."""
    path = wheel_model(DETECTION, engine="recogniser")
    if backend == "openvino":
        module = importlib.import_module("ocr.engines.ppocr_openvino")
        made = module.OpenVinoDetector(path, threads=threads, precision="auto", cache_dir=None)
        return made.detect, made.device.removeprefix("cpu ")
    module = importlib.import_module("ocr.engines.ppocr_onnxruntime")
    session = module.open_session(path, threads=threads, device=device)
    return lambda page: module.run(session, page)[0, 0], "onnxruntime"


def _cut(steps: object, grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box upright, at the page's own scale; one much taller than wide is turned."""
    cv2, np = steps.cv2, steps.np
    across, down = (float(np.linalg.norm(box[corner] - box[0])) for corner in (1, 3))
    if down >= 1.5 * across:
        box, across, down = np.roll(box, -1, axis=0), down, across
    level = abs(box[0, 1] - box[1, 1]) <= 3 and abs(box[0, 0] - box[3, 0]) <= 3
    if level and box[0, 0] < box[1, 0] and box[0, 1] < box[3, 1]:
        left, top = (int(value) for value in box.min(axis=0))
        right, bottom = (int(value) for value in box.max(axis=0))
        return grey[top : max(bottom, top + 1), left : max(right, left + 1)]
    size = max(round(across), 1), max(round(down), 1)
    corners = np.float32([[0, 0], [size[0], 0], size, [0, size[1]]])
    warp = cv2.getPerspectiveTransform(box, corners)
    return cv2.warpPerspective(
        grey, warp, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _likelihood(np: object, scores: np.ndarray) -> np.ndarray:
    """The probability of the best class at each step, by softmax."""
    highest = scores.max(axis=2, keepdims=True)
    return 1 / np.exp(scores - highest).sum(axis=2)
