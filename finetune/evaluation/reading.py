"""Lines of OCR, read by the engines that read pages."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image

from finetune.engines.scoring_lines import NAME, line_reader
from finetune.formats.base import Row
from finetune.models import EvaluationSide
from llm.sources import local_path
from mlops import engines
from mlops.engines import EngineSpec
from mlops.exceptions import EngineUnavailable
from ocr.page_image import DECODE_ERRORS, PageImage

BACKEND = "ocr.engines.recogniser.RecogniserEngine"

Reader = Callable[[Row], str]


def reader_of(side: EvaluationSide) -> Reader:
    """Reads the picture of a row. Raises EngineUnavailable; a reader ValueError for a picture."""
    engine = _engine(side)
    if engine.name == NAME:
        read_line = line_reader(engine)
        return lambda row: read_line(_picture(row).array())

    def read(row: Row) -> str:
        # Engines know pages; the line is one, with all that they find in it from left to right.
        reading = engine.read(_picture(row).array(), languages=("auto",))
        lines = sorted(reading.lines, key=lambda line: min(x for x, _y in line.polygon))
        return " ".join(line.text for line in lines)

    return read


def _engine(side: EvaluationSide) -> Any:
    if side.ocr_engine:
        return engines.cache("ocr").get(side.ocr_engine)
    if side.version is None:
        raise EngineUnavailable(f"'{side.label}' has been deleted since the evaluation was made.")
    options = {"folder": local_path(side.version.source), "label": str(side.version)}
    return EngineSpec(NAME, BACKEND, options).backend_class()(**options)


def _picture(row: Row) -> PageImage:
    try:
        with Image.open(BytesIO(base64.b64decode(row["image"]))) as image:
            return PageImage(image.convert("RGB"))
    except DECODE_ERRORS as error:
        raise ValueError(f"The picture can't be read: {error}") from error
