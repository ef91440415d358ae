"""What the tests of datasets share: a storage of their own, and imports that are run at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from finetune import services
from finetune.models import DatasetImport, DatasetVersion
from finetune.tasks import import_dataset
from mlops.models import User

# Tiny models, the same for all tests of a run.
from tests.llm.conftest import random_model, shared_folder, trained_model

__all__ = ["random_model", "shared_folder", "trained_model"]

Importer = Callable[..., DatasetVersion]


@pytest.fixture
def storage(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """The folder of the default storage."""
    place = tmp_path / "media"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(place)},
        },
    }
    assert default_storage.path("x") == str(place / "x")
    return place


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("kim")


def submitted(owner: User, rows: Any, name: str = "trams", **options: Any) -> DatasetImport:
    """An import of JSON lines, or of bytes, that no worker has seen yet."""
    content = rows
    if not isinstance(rows, bytes):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return services.dataset_import(
        owner=owner, name=name, file=BytesIO(content), filename="rows.jsonl", **options
    )


@pytest.fixture
def imported(storage: Path, owner: User) -> Importer:
    """Imports rows as a worker does, and gives the version."""

    def run(rows: Any, name: str = "trams", **options: Any) -> DatasetVersion:
        job = submitted(owner, rows, name, **options)
        assert import_dataset(str(job.pk))["status"] == "succeeded"
        job.refresh_from_db()
        assert job.version is not None
        return job.version

    return run
