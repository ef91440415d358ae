"""Each method from rows to what requests call, by the real trainer: a few steps of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.models import DatasetVersion, TrainingJob
from finetune.services.datasets import dataset_import
from finetune.tasks import import_dataset
from llm.models import LanguageModel
from mlops import engines
from mlops.models import User
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.recogniser import drawn
from tests.finetune.training_steps import do, submit

# On a busy machine importing the libraries alone takes half a minute.
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(autouse=True)
def places(settings: Any, tmp_path: Path) -> None:
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.TRAINING_DEVICES = ["cpu"]
    settings.MLFLOW_TRACKING_URI = "none"


def preferences(count: int) -> list[dict[str, Any]]:
    rows = []
    for row in chats(count):
        asked, answered = row["messages"]
        refused = answered | {"content": "I don't know."}
        rows.append({"prompt": [asked], "chosen": [answered], "rejected": [refused]})
    return rows


def texts(count: int) -> list[dict[str, Any]]:
    return [{"text": row["messages"][1]["content"]} for row in chats(count)]


def passed(job: TrainingJob) -> TrainingJob:
    assert job.status == "succeeded", (job.error, job.traceback)
    return job


@pytest.mark.parametrize(
    ("method", "rows", "figure"),
    [("dpo", preferences(40), "margin"), ("cpt", texts(40), "loss")],
)
def test_a_language_model(
    imported: Importer, random_model: Path, method: str, rows: list[Any], figure: str
) -> None:
    base = LanguageModel.objects.create(name="tiny", source=str(random_model))
    options = {"max_steps": 3, "batch_size": 4, "log_steps": 1, "dtype": "float32"}
    job = passed(do(submit(imported(rows), method=method, base=base, options=options)))
    version = job.versions.get()
    assert (version.fitness, version.called_by) == ("fit", ["reader@1"]), version.parity
    assert [point.step for point in job.metrics.all() if figure in point.values] == [1, 2, 3]
    assert job.checkpoints.filter(step=3, removed=False).exists()


def lines(count: int) -> bytes:
    """A zip of pictures of lines with their texts, as people have them."""
    random, target = Random(3), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        told = []
        for number in range(count):
            text = drawn.words(random)
            picture = io.BytesIO()
            Image.fromarray(drawn.line(text, random)).save(picture, "PNG")
            archive.writestr(f"lines/{number}.png", picture.getvalue())
            told.append(f"lines/{number}.png\t{text}")
        archive.writestr("labels.txt", "\n".join(told) + "\n")
    return target.getvalue()


def line_dataset(owner: User) -> DatasetVersion:
    job = dataset_import(owner=owner, name="lines", file=io.BytesIO(lines(60)), filename="l.zip")
    assert import_dataset(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    assert job.version.ready, job.version.report
    return job.version


def test_a_recogniser_is_an_engine_at_once(storage: Path, owner: User, settings: Any) -> None:
    settings.MODELS_FOLDER = storage.parent / "fetched"
    options = {"epochs": 0, "max_steps": 4, "channels": 8, "hidden": 16, "log_steps": 1}
    job = submit(
        line_dataset(owner), method="ocr-recognition", base=None, name="letters", options=options
    )
    version = passed(do(job)).versions.get()
    assert (version.form, version.fitness) == ("recogniser", "fit"), version.parity
    assert version.called_by == ["recogniser:letters@1", "easyocr:letters@1"]
    # As a worker does it that has its engines already.
    engine = engines.cache("ocr").get("recogniser:letters")
    assert engine.model_version.startswith("letters@1 ")
    page = np.full((200, 600, 3), 255, np.uint8)
    line = drawn.line("ABE 0123", Random(1))
    page[60 : 60 + line.shape[0], 50 : 50 + line.shape[1]] = line[:, :, None]
    reading = engine.read(page, languages=("en",))
    # It has learned nothing yet: that it is shown the line is what counts.
    assert reading.lines or reading.unread
