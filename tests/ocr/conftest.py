from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client
from PIL import Image

from mlops import engines
from mlops.engines import EngineCache, EngineSpec
from mlops.models import ApiKey, User
from tests.fakes import FAKE_ENGINES


@pytest.fixture
def fake_engines(settings) -> Iterator[None]:
    settings.ENGINES = FAKE_ENGINES
    settings.OCR_DEFAULT_ENGINE = "fake"
    engines._caches.clear()
    yield
    engines._caches.clear()


@pytest.fixture
def png() -> Callable[..., bytes]:
    def draw(width: int = 60, height: int = 40, form: str = "PNG", pages: int = 1) -> bytes:
        images = [Image.new("RGB", (width + n, height), "white") for n in range(pages)]
        out = io.BytesIO()
        more = {"save_all": True, "append_images": images[1:]} if pages > 1 else {}
        images[0].save(out, form, **more)
        return out.getvalue()

    return draw


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts bytes into a file whose name says nothing of them."""

    def save(content: bytes) -> Path:
        path = tmp_path / "document"
        path.write_bytes(content)
        return path

    return save


@pytest.fixture(scope="session")
def real_engines() -> EngineCache:
    """The default engines, loaded once for all tests."""
    return EngineCache(
        {
            "rapidocr": EngineSpec(
                "rapidocr", "ocr.engines.rapidocr.RapidOcrEngine", {"threads": 2}
            ),
            "tesseract": EngineSpec("tesseract", "ocr.engines.tesseract.TesseractEngine"),
        }
    )


@pytest.fixture
def user(db) -> User:
    return User.objects.create_user("kim", password="a-long-password")


@pytest.fixture
def api(user: User) -> Client:
    """A client with the user's key."""
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})
