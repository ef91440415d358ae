"""EasyOCR with a recogniser trained here, and with files in the place of its stock weights."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlops import engines
from mlops.exceptions import EngineUnavailable, JobFailed, NotInstalled
from ocr.engines import easyocr
from ocr.engines.easyocr import EasyOcrEngine
from ocr.engines.easyocr_models import stock_recogniser
from ocr.tasks import extract_text
from tests.ocr import engine_zoo

pytestmark = engine_zoo.needs("easyocr")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The trained recogniser's files, to be spoilt."""
    return Path(shutil.copytree(engine_zoo.letters_folder(), tmp_path / "letters"))


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files as EasyOCR's own, of weights that were never trained."""
    engine_zoo.ready_torch()
    import torch
    from easyocr import easyocr as library
    from easyocr.craft import CRAFT
    from easyocr.model.vgg_model import Model

    def put(record: dict[str, str], network: torch.nn.Module) -> None:
        path = tmp_path / record["filename"]
        torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)
        monkeypatch.setitem(record, "md5sum", hashlib.md5(path.read_bytes()).hexdigest())

    torch.manual_seed(0)
    record = library.recognition_models["gen2"]["english_g2"]
    put(record, Model(1, 256, 256, len(record["characters"]) + 1))
    put(library.detection_models["craft"], CRAFT())
    return tmp_path


def texts(engine: EasyOcrEngine, number: int) -> set[str]:
    return {line.text for line in engine.read(engine_zoo.page(number), languages=("en",)).lines}


@pytest.mark.parametrize("ending", ["pth", "py", "yaml"])
def test_a_missing_file_is_named(folder: Path, ending: str) -> None:
    missing = folder / f"letters.{ending}"
    missing.unlink()
    with pytest.raises(EngineUnavailable) as caught:
        EasyOcrEngine(recogniser="letters", model_dir=folder)
    assert f"lacks the file {missing}" in caught.value.message


def test_weights_that_do_not_fit_are_said(folder: Path) -> None:
    described = yaml.safe_load((folder / "letters.yaml").read_text())
    described["network_params"]["width"] = 8
    (folder / "letters.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(EngineUnavailable, match=r"(?s)could not load its models: .*size mismatch"):
        EasyOcrEngine(recogniser="letters", model_dir=folder)


@pytest.mark.django_db
def test_the_job_fails_at_once_with_that_reason(api, png, settings, folder: Path) -> None:
    (folder / "letters.pth").unlink()
    entry = {
        "BACKEND": "ocr.engines.easyocr.EasyOcrEngine",
        "OPTIONS": {"recogniser": "letters", "model_dir": str(folder), "languages": ["en"]},
    }
    settings.ENGINES = {"ocr": {"plates": entry}}
    settings.OCR_DEFAULT_ENGINE = "plates"
    engines._caches.clear()
    form = {"file": png_file(png()), "language": "en", "engine": "plates"}
    job = api.post("/api/v1/ocr/jobs", form).json()
    extract_text(job["id"])
    now = api.get(job["url"]).json()
    engines._caches.clear()
    assert now["status"] == "failed"
    assert now["error"]["code"] == "engine_unavailable"
    assert str(folder / "letters.pth") in now["error"]["message"]


def png_file(content: bytes):
    from django.core.files.uploadedfile import SimpleUploadedFile

    return SimpleUploadedFile("page.png", content, "image/png")


def test_two_recognisers_of_one_name_are_kept_apart(folder: Path) -> None:
    """The other one's alphabet is turned round: the same weights, other letters."""
    described = yaml.safe_load((folder / "letters.yaml").read_text())
    letters = described["character_list"]
    described["character_list"] = letters[::-1]
    (folder / "letters.yaml").write_text(yaml.safe_dump(described))
    path, modules = list(sys.path), set(sys.modules)
    other = EasyOcrEngine(threads=1, recogniser="letters", model_dir=folder)
    first = engine_zoo.build("easyocr")
    assert other.model_version != first.model_version
    turned = str.maketrans(letters, letters[::-1])
    expected = {text.translate(turned).strip() for text in texts(first, 1)}
    assert texts(other, 1) == expected
    assert texts(first, 1) != expected
    assert sys.path == path
    assert "letters" not in set(sys.modules) - modules


def test_a_taller_recogniser_leaves_the_others_alone(stock: Path) -> None:
    first = engine_zoo.build("easyocr")
    before = texts(first, 2)
    tall = EasyOcrEngine(threads=1, model_dir=stock, detector="rapidocr")
    tall.read(engine_zoo.page(2), languages=("en",))
    assert texts(first, 2) == before


@pytest.mark.parametrize("detector", ["auto", "rapidocr"])
def test_stock_weights_in_a_folder(stock: Path, detector: str) -> None:
    engine = EasyOcrEngine(
        threads=1, model_dir=stock, detector=detector, text_threshold=0.2, low_text=0.1
    )
    assert engine.installed == {"en"}
    assert engine.alphabet is None
    assert {Path(path).name for path in engine.models} == {"english_g2.pth", "craft_mlt_25k.pth"}
    reading = engine.read(engine_zoo.page(0), languages=("en",))
    assert reading.model_version.startswith("english_g2 ")
    with pytest.raises(EngineUnavailable, match=f"can't read ko: in {stock} are recognisers of en"):
        engine.read(engine_zoo.page(0), languages=("ko",))


def test_stock_weights_that_are_missing_are_named(tmp_path: Path, stock: Path) -> None:
    empty = tmp_path / "empty"
    with pytest.raises(EngineUnavailable, match=f"no recogniser in {empty}: put english_g2.pth"):
        EasyOcrEngine(model_dir=empty)
    with pytest.raises(EngineUnavailable, match=r"Missing .*korean_g2\.pth"):
        EasyOcrEngine(model_dir=stock, languages=["ko"])


def test_languages_of_one_recogniser() -> None:
    assert stock_recogniser(("en",)) == "english_g2"
    assert stock_recogniser(("de", "en")) == "latin_g2"
    assert stock_recogniser(("ko", "en")) == "korean_g2"
    with pytest.raises(JobFailed, match="no recogniser for ja\\+ko together"):
        stock_recogniser(("ja", "ko"))


def test_turned_lines_are_read(folder: Path) -> None:
    from PIL import Image

    page = Image.fromarray(engine_zoo.page(0)).rotate(4, fillcolor="white", resample=3)
    reading = engine_zoo.build("easyocr").read(np.asarray(page), languages=("en",))
    assert len(reading.lines) == 2
    assert all(line.polygon[0][1] > line.polygon[1][1] for line in reading.lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam": 3}, "no option beam. It has: .*beamWidth"),
        ({"detector": "yolo"}, "no detector 'yolo'"),
        ({"device": "cuda:0"}, "no cuda:0 here|CUDA build of torch"),
    ],
)
def test_what_can_not_be_is_refused(folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(EngineUnavailable, match=said):
        EasyOcrEngine(recogniser="letters", model_dir=folder, **options)


@pytest.mark.parametrize("library", ["easyocr", "torch", "torchvision"])
def test_a_missing_library_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(easyocr, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(NotInstalled, match=r"requirements/ocr-easyocr\.txt"):
        EasyOcrEngine()
