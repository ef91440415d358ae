"""Finds the lines of a page with PP-OCR's detector, for engines that only read single lines."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mlops.exceptions import NotInstalled
from ocr.engines.wheel_models import DETECTION, wheel_model

if TYPE_CHECKING:
    import os

    import numpy as np

LIMIT = 960


class LineFinder:
    """The detector alone, on the CPU; safe to use from several threads."""

    def __init__(
        self,
        *,
        engine: str,
        threads: int,
        limit: int = LIMIT,
        model: str | os.PathLike[str] | None = None,
    ) -> None:
        """`engine` is whom it finds lines for, as errors name it. Raises EngineUnavailable.

        `limit`: the page's long side as the network sees it, in pixels. `model`: another detector.
        """
        for library in ("onnxruntime", "cv2"):
            if find_spec(library) is None:
                raise NotInstalled(
                    f"The {engine} engine needs {library} to find lines: "
                    "pip install -r requirements/ocr.txt"
                )
        self._steps = importlib.import_module("ocr.engines.ppocr")
        networks = importlib.import_module("ocr.engines.ppocr_onnxruntime")
        path = wheel_model(DETECTION, engine=engine) if model is None else model
        self._session = networks.open_session(path, threads=threads)
        self._run = networks.run
        self._limit = limit

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes, float32 (4, 2), clockwise from the top left, of the RGB page `image`."""
        page = self._steps.bgr(image)
        height, width = page.shape[:2]
        probability = self._run(self._session, self._steps.detector_input(page, self._limit))[0, 0]
        return self._steps.find_boxes(probability, width, height, self._steps.Boxes())

    def cut(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The box out of the page, upright, at the page's own scale; shape (h, w, 3)."""
        cv2, np = self._steps.cv2, self._steps.np
        width = max(round(float(np.linalg.norm(box[1] - box[0]))), 1)
        height = max(round(float(np.linalg.norm(box[3] - box[0]))), 1)
        corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        warp = cv2.getPerspectiveTransform(box, corners)
        return cv2.warpPerspective(
            image, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
