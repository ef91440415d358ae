"""Pages read by model servers (`manage.py serve_ocr`) on other machines."""

from __future__ import annotations

import importlib
import ipaddress
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from PIL import Image

from mlops.exceptions import EngineUnavailable, JobFailed
from ocr.engines.base import Line, Reading
from ocr.languages import LANGUAGES

if TYPE_CHECKING:
    import numpy as np

# Pages that one call of `read_many` has under way at once.
_SENDERS = 16
# Larger pages are packed even for a server on this machine: it refuses bodies of 100 MB.
_MOST_UNPACKED = 64 * 1024 * 1024


class RemoteOcrEngine:
    """Sends each page to the server that has the least to do. Reads what the servers can read.

    The server chooses its engine; turning pages and laying them out is done on this side. Pages
    go out without loss, as TIFF: raw to this machine, else in LZW, which takes about two thirds
    of the time of the quickest PNG.
    """

    name: ClassVar[str] = "remote"
    requirements: ClassVar[str] = "ocr.txt"
    languages: ClassVar[frozenset[str]] = frozenset(LANGUAGES)
    latin_first: ClassVar[bool] = False
    tells_scripts: ClassVar[bool] = False
    batches: ClassVar[bool] = True

    model_version = "remote"

    def __init__(
        self,
        *,
        urls: Sequence[str],
        token: str = "",
        timeout: float = 60.0,
        patience: float = 10.0,
        engine: str = "auto",
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        """`timeout`, `patience`: seconds, as ModelServerClient has them. `engine`: the server's.

        `threads` and `device` are what other engines take; here the work is done elsewhere.
        Raises EngineUnavailable for a URL that is none; a server need not be up yet.
        """
        try:
            client = importlib.import_module("ocr.engines.model_client")
        except ModuleNotFoundError as error:
            raise EngineUnavailable(
                f"The remote engine needs {error.name}: pip install -r requirements/ocr.txt"
            ) from error
        try:
            self._client = client.ModelServerClient(
                urls, token=token, timeout=timeout, patience=patience
            )
        except ValueError as error:
            raise EngineUnavailable(f"{error} (OCR_MODEL_SERVER_URL).") from error
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="model-server")
        self._engine = engine
        self._near = all(_is_loopback(url) for url in urls)
        self.device = f"remote {', '.join(urlsplit(url).netloc for url in urls)}"

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Raises JobFailed with the reason."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != "uint8" or not image.size:
            raise ValueError(
                f"Expected RGB uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
        answer = self._client.predict(
            encode(image, packed=not self._near or image.nbytes > _MOST_UNPACKED),
            language="+".join(languages),
            engine=self._engine,
            rotate="false",
        )
        if answer["status"] != "succeeded":
            raise JobFailed(str(answer.get("error") or answer["status"]), code="model_server")
        try:
            return _reading(answer, languages)
        except (LookupError, TypeError, ValueError) as error:
            raise JobFailed(
                f"The model server's answer is not of the form agreed on ({error!r}). Is it the "
                "same version as this platform?",
                code="model_server",
            ) from error

    def read_many(
        self, images: Sequence[np.ndarray], *, languages: tuple[str, ...]
    ) -> list[Reading]:
        """Sends all at once, so that the servers have something to batch. Raises as `read`."""
        return list(self._senders.map(lambda image: self.read(image, languages=languages), images))

    def close(self) -> None:
        self._senders.shutdown()
        self._client.close()


def encode(image: np.ndarray, *, packed: bool) -> bytes:
    """The page without loss: RGB, uint8, shape (height, width, 3)."""
    target = BytesIO()
    Image.fromarray(image).save(target, format="TIFF", compression="tiff_lzw" if packed else "raw")
    return target.getvalue()


def _reading(answer: dict[str, Any], languages: tuple[str, ...]) -> Reading:
    """Raises LookupError, TypeError or ValueError where the answer has another form."""
    page = (answer.get("pages") or [{}])[0]
    return Reading(
        lines=tuple(_line(box) for box in answer["text_boxes"]),
        language=str(page.get("language") or "+".join(languages)),
        model_version=str(page.get("model_version") or RemoteOcrEngine.model_version),
    )


def _line(box: dict[str, Any]) -> Line:
    text, confidence = box["text"], float(box["confidence"])
    polygon = tuple((float(x), float(y)) for x, y in box["polygon"])
    if not isinstance(text, str) or not 0 <= confidence <= 1 or len(polygon) < 4:
        raise ValueError(f"no line: {str(box)[:100]}")
    if not all(math.isfinite(value) for point in polygon for value in point):
        raise ValueError("a polygon that is not finite")
    spans = tuple((float(begin), float(end)) for begin, end in box.get("spans", ()))
    return Line(text, confidence, polygon, spans)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
