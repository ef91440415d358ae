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

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines.base import Line, Polygon, Reading
from ocr.engines.device import CPU, choose_ppocr
from ocr.engines.spans import word_spans
from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model
from ocr.languages import AUTO, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    # For each line of a batch and each step of it: the best character's number, its probability.
    Answer = tuple[np.ndarray, np.ndarray]
    # Batches, uint8 BGR (n, 48, w, 3) each, to their answers.
    Recogniser = Callable[[list[np.ndarray]], list[Answer]]

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
    `precision="auto"` takes the quickest that costs no accuracy: 8-bit integers where the models
    are rapidocr's own and OpenVINO has them, else what the library chooses.
    `recognition_batch` is how many lines go through together, of one page or (`read_many`) of
    several: 16 on a GPU. On a CPU it saves 2 %, and each size of batch costs as much memory again
    as one line at a time, which is what it is there unless it is given.
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
        device: str = "auto",
        providers: Sequence[str] = ("cuda",),
        threads: int | None = None,
        precision: Literal["auto", "f32", "bf16", "int8"] = "auto",
        charset: Literal["auto", "latin", "full"] = "auto",
        detection_limit: int = 960,
        recognition_batch: int | None = None,
        model_dir: StrPath | None = None,
        detection_model: StrPath = DETECTION,
        recognition_model: StrPath = RECOGNITION,
        cache_dir: StrPath | None = None,
    ) -> None:
        """Model paths that are not absolute lie in `model_dir`, by default rapidocr's own.

        `device`: auto, cpu or cuda:N, and on a GPU `providers` says which of `tensorrt` and `cuda`
        run the layers. `cache_dir` keeps compiled networks. Raises EngineUnavailable.
        """
        backend, device = choose_ppocr(backend, device)
        for library in (backend, "cv2", "rapidocr"):
            if find_spec(library) is None:
                raise NotInstalled(
                    f"The rapidocr engine needs {library}: pip install -r requirements/ocr.txt"
                )
        files = [_file(name, model_dir) for name in (detection_model, recognition_model)]
        threads = threads or len(os.sched_getaffinity(0))
        self._steps = importlib.import_module("ocr.engines.ppocr")
        # Its calls are too small to share, and N processes would fight over the cores.
        self._steps.cv2.setNumThreads(1)
        module = importlib.import_module(f"ocr.engines.ppocr_{backend}")
        if backend == "openvino":
            self._networks: Networks = module.OpenVinoNetworks(
                *files, threads=threads, precision=precision, cache_dir=cache_dir
            )
        else:
            self._networks = module.OnnxNetworks(
                *files, threads=threads, device=device, providers=providers, cache_dir=cache_dir
            )
        self._recognisers: dict[bool, tuple[Recogniser, list[str]]] = {}
        self._building = Lock()
        self._charset = charset
        self._limit = detection_limit
        self._batch = recognition_batch or (1 if device == CPU else 16)
        self.batches = self._batch > 1
        self.device = self._networks.device
        if device == CPU:
            self.device += f" {threads} thread{'s'[: threads > 1]}"
        self.model_version = _version(files)
        self.models = tuple(str(path) for path in files)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Lines of any confidence are kept."""
        return self.read_many([image], languages=languages)[0]

    def read_many(
        self, images: Sequence[np.ndarray], *, languages: tuple[str, ...]
    ) -> list[Reading]:
        """Each image as `read` takes it; lines of one width are recognised together."""
        recognise, characters = self._recogniser(languages)
        steps = self._steps
        found = [(page, box) for page, image in enumerate(images) for box in self._boxes(image)]
        pages = [steps.bgr(image) for image in images]
        crops = [steps.crop(pages[page], box) for page, box in found]
        batches = steps.batches(crops, self._batch)
        answers = recognise([batch for _, batch in batches])
        lines: list[list[Line]] = [[] for _ in images]
        unread: list[list[Polygon]] = [[] for _ in images]
        for (members, batch), (indices, probabilities) in zip(batches, answers, strict=True):
            per_step = batch.shape[2] / indices.shape[1]
            for row, index in enumerate(members):
                page, box = found[index]
                polygon = tuple((float(x), float(y)) for x, y in box)
                decoded = steps.decode(indices[row], probabilities[row], characters)
                if not decoded.text.strip():
                    unread[page].append(polygon)
                    continue
                width = crops[index].shape[1]
                spans = word_spans(
                    decoded.text, steps.places(decoded, per_step=per_step, width=width)
                )
                text = decoded.text.strip()
                lines[page].append(Line(text, decoded.confidence, polygon, spans))
        asked = "+".join(languages)
        return [
            Reading(tuple(seen), asked, self.model_version, tuple(blank))
            for seen, blank in zip(lines, unread, strict=True)
        ]

    def _boxes(self, image: np.ndarray) -> list[np.ndarray]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        page = self._steps.bgr(image)
        height, width = page.shape[:2]
        probability = self._networks.detect(self._steps.detector_input(page, self._limit))
        return self._steps.find_boxes(probability, width, height, self._steps.Boxes())

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


def _file(name: StrPath, folder: StrPath | None) -> Path:
    """The model's file: in `folder`, wherever an absolute name says, or in rapidocr's wheel."""
    if folder is None and not Path(name).is_absolute():
        return wheel_model(str(name), engine="rapidocr")
    path = Path(folder or "") / name
    if not path.is_file():
        raise EngineUnavailable(
            f"The rapidocr engine lacks the model file {path}. Without model_dir it takes "
            f"{DETECTION} and {RECOGNITION} from rapidocr's wheel."
        )
    return path


def _version(files: list[Path]) -> str:
    """The model's name with a short hash of the very files that are loaded."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    parts = [part for part in files[-1].stem.split("_") if part not in ("det", "rec")]
    return f"{'-'.join(parts)} {digest}"
