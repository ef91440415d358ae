"""Folders in the storage: whole or not there, on a disk and on S3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from llm.sources import local_path
from mlops.exceptions import EngineUnavailable
from mlops.stored_folders import FolderMissing, folder_delete, folder_get, folder_index, folder_put


@pytest.fixture(autouse=True)
def storage(settings, tmp_path: Path) -> None:
    settings.MODELS_FOLDER = tmp_path / "data"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "media")},
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "made"
    (place / "deep").mkdir(parents=True)
    (place / "a.bin").write_bytes(bytes(range(256)) * 100)
    (place / "deep" / "b.txt").write_text("가나다", encoding="utf-8")
    return place


def content(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    files = folder_put(folder, "models/one")
    assert files["a.bin"][0] == 25_600 and set(files) == {"a.bin", "deep/b.txt"}
    assert folder_get("models/one", tmp_path / "got") == files == folder_index("models/one")
    assert content(tmp_path / "got") == content(folder)


def test_what_a_link_leads_to_is_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "link.txt").symlink_to(folder / "deep" / "b.txt")
    folder_put(folder, "models/one")
    shutil.rmtree(folder)
    folder_get("models/one", tmp_path / "got")
    assert (tmp_path / "got" / "link.txt").read_text(encoding="utf-8") == "가나다"


def test_another_attempt_replaces_what_is_there(folder: Path, tmp_path: Path) -> None:
    folder_put(folder, "models/one")
    (folder / "a.bin").unlink()
    (folder / "c.bin").write_bytes(b"new")
    folder_put(folder, "models/one")
    folder_get("models/one", tmp_path / "got")
    assert content(tmp_path / "got") == content(folder)
    assert not default_storage.exists("models/one/a.bin")


def test_what_is_torn_is_not_there(folder: Path, tmp_path: Path) -> None:
    folder_put(folder, "models/one")
    default_storage.delete("models/one/a.bin")
    default_storage.save("models/one/a.bin", ContentFile(b"half"))
    with pytest.raises(FolderMissing, match=r"a\.bin' is not what was put there"):
        folder_get("models/one", tmp_path / "got")
    default_storage.delete("models/one/a.bin")
    with pytest.raises(FolderMissing, match="gone"):
        folder_get("models/one", tmp_path / "got")
    assert not (tmp_path / "got").exists()
    folder_delete("models/one")
    with pytest.raises(FolderMissing, match="not in the storage"):
        folder_get("models/one", tmp_path / "got")


def test_an_index_leads_out_of_nothing(tmp_path: Path) -> None:
    default_storage.save("secret.txt", ContentFile(b"x"))
    index = json.dumps({"../../secret.txt": [1, "0"]}).encode()
    default_storage.save("models/one/files.json", ContentFile(index))
    with pytest.raises(FolderMissing, match="outside"):
        folder_get("models/one", tmp_path / "got")


def test_a_model_is_loaded_from_the_storage(folder: Path, settings) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "components" / "tokenizer").mkdir(parents=True)
    (folder / "components" / "tokenizer" / "tokenizer.json").write_text("{}")
    folder_put(folder, "models/ab/one")
    place = Path(local_path("stored:models/ab/one"))
    assert {path.name for path in place.iterdir()} == {"config.json", "tokenizer.json"}
    assert place.is_relative_to(settings.MODELS_FOLDER)
    assert local_path("stored:models/ab/one") == str(place)
    with pytest.raises(EngineUnavailable, match="not in the storage"):
        local_path("stored:models/ab/two")
    with pytest.raises(EngineUnavailable, match="no folder of models"):
        local_path("stored:../../etc")
