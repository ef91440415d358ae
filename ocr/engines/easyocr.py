"""EasyOCR: its stock recognisers where their weights are on disk, and custom ones."""

from __future__ import annotations

import importlib
import inspect
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import device as devices
from ocr.engines.base import Line, Reading
from ocr.engines.easyocr_models import (
    STOCK_LANGUAGES,
    CustomRecogniser,
    easyocr_codes,
    present_languages,
    stock_entry,
    stock_recogniser,
)
from ocr.engines.line_finder import LineFinder
from ocr.engines.recogniser_files import NAME, recogniser_files
from ocr.engines.torch_library import import_torch
from ocr.languages import AUTO

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np

# EasyOCR keeps the height of the recogniser in use in a variable of its module: one page at a
# time goes through the library, whichever engine it belongs to.
_library_lock = Lock()


class EasyOcrEngine:
    """EasyOCR's pipeline, with its own option names.

    `recogniser` names a custom one, read from NAME.pth in `model_dir` and NAME.py, NAME.yaml in
    `network_dir` (by default the same folder). `folder` stands for these three where a training
    made the recogniser, and `label` is what its version is called in results. Without either the
    stock ones in `model_dir` serve, each for its languages. `detector`: EasyOCR's `craft` or
    `dbnet18`, or `rapidocr` for PP-OCR's, which needs no weights of EasyOCR's; `auto` is craft
    where its weights are. Any parameter of EasyOCR's `Reader.detect` and `Reader.recognize` is an
    option too. `alphabet`: the characters that a custom recogniser tells apart, None with the stock
    ones.
    """

    name: ClassVar[str] = "easyocr"
    requirements: ClassVar[str] = "ocr-easyocr.txt"
    languages: ClassVar[frozenset[str]] = STOCK_LANGUAGES
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = False

    def __init__(
        self,
        *,
        threads: int | None = None,
        device: str = devices.AUTO,
        languages: Collection[str] | None = None,
        recogniser: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        label: str = "",
        model_dir: str | os.PathLike[str] | None = None,
        network_dir: str | os.PathLike[str] | None = None,
        detector: Literal["auto", "craft", "dbnet18", "rapidocr"] = "auto",
        detection_limit: int = 960,
        download: bool = False,
        quantize: bool = False,
        **options: Any,
    ) -> None:
        """`threads` are torch's, which all of its users in the process share.

        `model_dir` is by default EasyOCR's own. `detection_limit`: the page's long side, in pixels,
        for PP-OCR's detector. `download`: what is missing comes from EasyOCR's site. Raises
        EngineUnavailable.
        """
        for library in ("easyocr", "torch", "torchvision"):
            if find_spec(library) is None:
                raise NotInstalled(
                    f"The easyocr engine needs {library}: pip install "
                    "-r requirements/ocr-easyocr.txt -r requirements/torch.txt"
                )
        self._torch = import_torch()
        self._easyocr = importlib.import_module("easyocr.easyocr")
        # Its data loader asks for pinned memory with every line, GPU or not.
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        if folder is not None:
            recogniser, model_dir = NAME, recogniser_files(Path(folder), engine=self.name).folder
            network_dir = None
        where = devices.choose_torch(device)
        if threads:
            self._torch.set_num_threads(threads)
        stock = Path(self._easyocr.MODULE_PATH, "model")
        self._folder = Path(model_dir) if model_dir is not None else stock
        self._place, self._download, self._quantize = where, download, quantize
        self._options = _sorted_options(self._easyocr.Reader, options)
        self._custom = None
        self.alphabet: frozenset[str] | None = None
        if recogniser is not None:
            networks = Path(network_dir) if network_dir is not None else self._folder
            self._custom = CustomRecogniser(
                recogniser,
                weights=self._folder / f"{recogniser}.pth",
                network=networks / f"{recogniser}.py",
                settings=networks / f"{recogniser}.yaml",
                label=label,
            )
            self._custom.require_files()
            self.alphabet = self._custom.alphabet()
        self.installed = self._installed(languages)
        self._detector = self._choose_detector(detector)
        self._finder = None
        count = self._torch.get_num_threads()
        if self._detector is None:
            self._finder = LineFinder(engine=self.name, threads=count, limit=detection_limit)
        self._readers: dict[tuple[str, ...], tuple[Any, int, str]] = {}
        self.device = f"{where} torch f32 {count} thread{'s'[: count > 1]}"
        with _library_lock:
            _, _, self.model_version = self._reader(self._first_languages())
        self.models = self._files()

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3).

        Raises EngineUnavailable where the recogniser of a language is missing.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        asked = self._first_languages() if languages == (AUTO,) else languages
        if missing := [code for code in asked if code not in self.installed]:
            raise EngineUnavailable(
                f"The easyocr engine can't read {', '.join(missing)}: "
                + (
                    f"its recogniser '{self._custom.name}' reads {_listed(self.installed)}."
                    if self._custom
                    else f"in {self._folder} are recognisers of {_listed(self.installed)}."
                )
            )
        boxes = self._finder.find(image) if self._finder else None
        with _library_lock:
            reader, height, version = self._reader(asked)
            self._easyocr.imgH = height
            level, turned = _as_lists(boxes) if boxes is not None else self._detect(reader, image)
            grey = self._easyocr.cv2.cvtColor(image, self._easyocr.cv2.COLOR_RGB2GRAY)
            found = reader.recognize(grey, level, turned, reformat=False, **self._options[1])
        lines, unread = [], []
        for corners, text, confidence in found:
            polygon = tuple((float(x), float(y)) for x, y in corners)
            if text.strip():
                lines.append(Line(text.strip(), min(float(confidence), 1.0), polygon))
            else:
                unread.append(polygon)
        return Reading(tuple(lines), "+".join(languages), version, tuple(unread))

    def close(self) -> None:
        """Drops the networks."""
        self._readers.clear()

    def _installed(self, languages: Collection[str] | None) -> frozenset[str]:
        """What it can read: as the option says, as the custom recogniser does, or by its files."""
        if languages is not None:
            return frozenset(languages)
        if self._custom is not None:
            return frozenset(self._custom.languages())
        if self._download:
            return self.languages
        present = present_languages(self._easyocr, self._folder)
        if not present:
            raise EngineUnavailable(
                f"The easyocr engine has no recogniser in {self._folder}: put english_g2.pth (or "
                "another of EasyOCR's) there, name a custom one in `recogniser`, or set download."
            )
        return present

    def _files(self) -> tuple[str, ...]:
        """The weights in use: the custom recogniser's, or all stock ones in the folder."""
        if self._custom is not None:
            return (str(self._custom.weights),)
        return tuple(str(path) for path in sorted(self._folder.glob("*.pt*")))

    def _first_languages(self) -> tuple[str, ...]:
        """What to load at first, and to read with when nobody says which language it is."""
        if self._custom is not None:
            return tuple(sorted(self.installed))
        return ("en",) if "en" in self.installed else (min(self.installed),)

    def _choose_detector(self, detector: str) -> str | None:
        """EasyOCR's name of the detector, None for PP-OCR's."""
        models = self._easyocr.detection_models
        if detector == "auto":
            weights = self._folder / models["craft"]["filename"]
            return "craft" if weights.is_file() or self._download else None
        if detector == "rapidocr":
            return None
        if detector not in models:
            raise EngineUnavailable(
                f"EasyOCR has no detector '{detector}'. Choose auto, craft, dbnet18 or rapidocr."
            )
        return detector

    def _reader(self, languages: tuple[str, ...]) -> tuple[Any, int, str]:
        """(EasyOCR's reader for the languages, its recogniser's height in pixels, its version)."""
        key = ("custom",) if self._custom else tuple(sorted(languages))
        if key not in self._readers:
            self._readers[key] = self._load(languages)
        return self._readers[key]

    def _load(self, languages: tuple[str, ...]) -> tuple[Any, int, str]:
        options: dict[str, Any] = {
            "gpu": False if self._place == devices.CPU else self._place,
            "model_storage_directory": str(self._folder),
            "download_enabled": self._download,
            "detector": self._detector is not None,
            "detect_network": self._detector or "craft",
            "quantize": self._quantize,
            "verbose": False,
        }
        self._easyocr.imgH = 64
        try:
            if self._custom is None:
                name = stock_recogniser(languages)
                version = f"{name} {stock_entry(self._easyocr, name)['md5sum'][:12]}"
                reader = self._easyocr.Reader(easyocr_codes(languages), **options)
            else:
                version = self._custom.version()
                codes = easyocr_codes(self._custom.languages())
                options["user_network_directory"] = str(self._custom.network.parent)
                with self._custom.importable():
                    reader = self._easyocr.Reader(codes, recog_network=self._custom.name, **options)
        except (OSError, RuntimeError) as error:
            raise EngineUnavailable(f"EasyOCR could not load its models: {error}") from error
        return reader, self._easyocr.imgH, version

    def _detect(self, reader: Any, image: np.ndarray) -> tuple[list[Any], list[Any]]:
        level, turned = reader.detect(image, reformat=False, **self._options[0])
        return level[0], turned[0]


def _sorted_options(reader: type, options: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The options of detection and those of recognition. Raises EngineUnavailable for others."""
    steps = (reader.detect, reader.recognize)
    taken = tuple(
        {name: options[name] for name in inspect.signature(step).parameters if name in options}
        for step in steps
    )
    if strange := set(options) - set().union(*taken):
        known = sorted(
            set().union(*(inspect.signature(step).parameters for step in steps)) - {"self"}
        )
        raise EngineUnavailable(
            f"EasyOCR has no option {', '.join(sorted(strange))}. It has: {', '.join(known)}."
        )
    return taken


def _as_lists(boxes: list[np.ndarray]) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Boxes as EasyOCR wants them: (left, right, top, bottom) if level, else four corners."""
    level, turned = [], []
    for box in boxes:
        corners = [[int(x), int(y)] for x, y in box]
        across = corners[1][1] - corners[0][1]
        down = corners[3][0] - corners[0][0]
        if max(abs(across), abs(down)) <= 3:
            xs, ys = zip(*corners, strict=True)
            level.append([min(xs), max(xs), min(ys), max(ys)])
        else:
            turned.append(corners)
    return level, turned


def _listed(languages: frozenset[str]) -> str:
    return ", ".join(sorted(languages))
