"""PP-OCR's networks as rapidocr's wheel carries them, run on OpenVINO or onnxruntime.

No model hub is asked: the files are on disk, or the engine is unavailable.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from mlops.exceptions import EngineUnavailable
from ocr.engines.base import Line, Reading
from ocr.languages import AUTO, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    # For each line of a batch and each step of it: the best character's number, its probability.
    Answer = tuple[np.ndarray, np.ndarray]
    # Batches, uint8 BGR (n, 48, w, 3) each, to their answers.
    Recogniser = Callable[[list[np.ndarray]], list[Answer]]

DETECTION = "PP-OCRv6_det_small.onnx"
RECOGNITION = "PP-OCRv6_rec_small.onnx"

# The dictionary lacks the tone marks of Vietnamese.
_LATIN = frozenset(code for code, language in LANGUAGES.items() if language.script == "Latn") - {
    "vi"
}

StrPath = str | os.PathLike[str]


class Networks(Protocol):
    """A detector and its recognisers on one library; safe to call from several threads."""

    device: str
    characters: list[str]

    def detect(self, page: np.ndarray) -> np.ndarray:
        """uint8 BGR (1, h, w, 3) -> probability of text, float32 (h, w)."""
        ...

    def recogniser(self, keep: np.ndarray | None) -> Recogniser:
        """A recogniser that chooses among the characters numbered `keep`, or among all."""
        ...


class RapidOcrEngine:
    """Reads Latin scripts, Chinese and Japanese; has no Hangul.

    `charset="auto"` lets the recogniser choose among Latin characters alone where only languages
    in that script are asked for: less work, and no Chinese comma in an English line. So it does
    for `auto`, where the boxes it leaves unread tell the caller to ask for another script.
    `threads` is what one page may use; give 1 where several processes share a machine.
    """

    name: ClassVar[str] = "rapidocr"
    requirements: ClassVar[str] = "ocr.txt"
    languages: ClassVar[frozenset[str]] = _LATIN | {"zh-Hans", "zh-Hant", "ja"}
    latin_first: ClassVar[bool] = True
    tells_scripts: ClassVar[bool] = False

    def __init__(
        self,
        *,
        backend: Literal["auto", "onnxruntime", "openvino"] = "auto",
        threads: int | None = None,
        precision: Literal["auto", "f32", "bf16"] = "auto",
        charset: Literal["auto", "latin", "full"] = "auto",
        detection_limit: int = 960,
        recognition_batch: int = 1,
        model_dir: StrPath | None = None,
        detection_model: StrPath = DETECTION,
        recognition_model: StrPath = RECOGNITION,
        cache_dir: StrPath | None = None,
    ) -> None:
        """Model paths that are not absolute lie in `model_dir`, by default rapidocr's own.

        `cache_dir` keeps OpenVINO's compiled networks. Raises EngineUnavailable.
        """
        if backend == "auto":
            backend = "openvino" if find_spec("openvino") else "onnxruntime"
        for library in (backend, "cv2", "rapidocr"):
            if find_spec(library) is None:
                raise EngineUnavailable(
                    f"The rapidocr engine needs {library}: pip install -r requirements/ocr.txt"
                )
        folder = Path(model_dir) if model_dir is not None else _wheel_models()
        files = [_present(folder / name) for name in (detection_model, recognition_model)]
        threads = threads or len(os.sched_getaffinity(0))
        self._steps = importlib.import_module("ocr.engines.ppocr")
        # Its calls are too small to share, and N processes would fight over the cores.
        self._steps.cv2.setNumThreads(1)
        self._networks = _networks(backend, files, threads, precision, cache_dir)
        self._recognisers: dict[bool, tuple[Recogniser, list[str]]] = {}
        self._building = Lock()
        self._charset = charset
        self._limit = detection_limit
        self._batch = recognition_batch
        self.device = f"{self._networks.device} {threads} thread{'s'[: threads > 1]}"
        self.model_version = _version(files)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Lines of any confidence are kept."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        recognise, characters = self._recogniser(languages)
        steps = self._steps
        page = steps.bgr(image)
        height, width = page.shape[:2]
        probability = self._networks.detect(steps.detector_input(page, self._limit))
        boxes = steps.find_boxes(probability, width, height, steps.Boxes())
        batches = steps.batches([steps.crop(page, box) for box in boxes], self._batch)
        answers = recognise([batch for _, batch in batches])
        lines, unread = [], []
        for (members, _), (indices, probabilities) in zip(batches, answers, strict=True):
            for place, index in enumerate(members):
                text, confidence = steps.decode(indices[place], probabilities[place], characters)
                polygon = tuple((float(x), float(y)) for x, y in boxes[index])
                if text := text.strip():
                    lines.append(Line(text, confidence, polygon))
                else:
                    unread.append(polygon)
        return Reading(tuple(lines), "+".join(languages), self.model_version, tuple(unread))

    def close(self) -> None:
        """Drops the recognisers; the rest goes with the engine."""
        self._recognisers.clear()

    def _recogniser(self, languages: tuple[str, ...]) -> tuple[Recogniser, list[str]]:
        """The recogniser for these languages, and the dictionary that its answers count in."""
        strange = set(languages) - self.languages - {AUTO}
        if strange or not languages:
            raise ValueError(f"rapidocr can't read {', '.join(sorted(strange)) or 'no language'}.")
        latin = self._charset == "latin" or (
            self._charset == "auto" and _LATIN.union([AUTO]).issuperset(languages)
        )
        with self._building:
            if latin not in self._recognisers:
                characters = self._networks.characters
                keep = self._steps.latin_indices(characters) if latin else None
                if keep is not None:
                    characters = [characters[index] for index in keep]
                self._recognisers[latin] = self._networks.recogniser(keep), characters
            return self._recognisers[latin]


def _networks(
    backend: str, files: list[Path], threads: int, precision: str, cache_dir: StrPath | None
) -> Networks:
    """By dotted path, so that whoever imports this module does not depend on the library."""
    module = importlib.import_module(f"ocr.engines.ppocr_{backend}")
    if backend == "onnxruntime":
        return module.OnnxNetworks(*files, threads=threads)
    return module.OpenVinoNetworks(
        *files, threads=threads, precision=precision, cache_dir=cache_dir
    )


def _wheel_models() -> Path:
    """rapidocr's own folder of models, found without importing it (that takes 0.7 s)."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise EngineUnavailable(
            "The rapidocr engine needs rapidocr: pip install -r requirements/ocr.txt"
        )
    return Path(spec.origin).parent / "models"


def _present(path: Path) -> Path:
    if not path.is_file():
        raise EngineUnavailable(
            f"The rapidocr engine lacks the model file {path}. rapidocr's wheel carries "
            f"{DETECTION} and {RECOGNITION}: pip install -r requirements/ocr.txt"
        )
    return path


def _version(files: list[Path]) -> str:
    """The model's name with a short hash of the very files that are loaded."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    parts = [part for part in files[-1].stem.split("_") if part not in ("det", "rec")]
    return f"{'-'.join(parts)} {digest}"
