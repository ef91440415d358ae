"""PaddleOCR on local models: what it asks of its folders, and that no hub is asked for anything."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path

import pytest

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import paddleocr, paddleocr_models
from ocr.engines.paddleocr import PaddleOcrEngine
from tests.ocr import engine_zoo

pytestmark = engine_zoo.needs("paddleocr")

DETECTION = "text_detection_model_dir"
RECOGNITION = "text_recognition_model_dir"


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Model folders of one's own, as options."""
    made = paddleocr_models.wheel_models(tmp_path)
    return {key: made[key] for key in (DETECTION, RECOGNITION)}


def test_nothing_is_asked_of_a_network(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, str]
) -> None:
    engine_zoo.build("paddleocr")

    def refuse(*arguments: object, **_: object) -> None:
        pytest.fail(f"asked the network: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for options in ({}, folders):
        engine = PaddleOcrEngine(threads=1, **options)
        texts = {line.text for line in engine.read(engine_zoo.page(0), languages=("en",)).lines}
        assert texts == set(engine_zoo.PAGES[0])
        engine.close()


def test_models_of_ones_own(folders: dict[str, str]) -> None:
    engine = PaddleOcrEngine(threads=1, device="cpu", languages=["fr"], **folders)
    assert engine.installed == {"fr"}
    assert engine.device == "cpu onnxruntime f32 1 thread"
    assert engine.model_version.startswith("PP-OCRv6_small_rec ")
    assert [Path(path).suffix for path in engine.models] == [".onnx", ".onnx"]
    with pytest.raises(ValueError, match="can't read ja"):
        engine.read(engine_zoo.page(0), languages=("ja",))


@pytest.mark.parametrize("name", ["inference.yml", "inference.onnx"])
def test_a_missing_file_is_named(folders: dict[str, str], name: str) -> None:
    missing = Path(folders[RECOGNITION]) / name
    missing.unlink()
    with pytest.raises(EngineUnavailable, match="text_recognition_model lacks the file") as caught:
        PaddleOcrEngine(**folders)
    assert str(missing) in caught.value.message


def test_a_file_that_is_no_network_is_said(folders: dict[str, str]) -> None:
    broken = Path(folders[DETECTION]) / "inference.onnx"
    broken.unlink()
    broken.write_bytes(b"nothing")
    with pytest.raises(EngineUnavailable, match=r"inference\.onnx"):
        PaddleOcrEngine(**folders)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lang": "korean"}, "set download"),
        ({"text_recognition_model_name": "PP-OCRv5_mobile_rec"}, "text_detection_model_dir"),
        ({"text_det_treshold": 1}, "no option text_det_treshold. It has: .*text_det_thresh,"),
        ({"device": "cuda:0"}, "There is no cuda:0 here|onnxruntime-gpu"),
    ],
)
def test_what_can_not_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(EngineUnavailable, match=said):
        PaddleOcrEngine(**options)


@pytest.mark.parametrize("library", ["paddleocr", "paddle"])
def test_a_missing_library_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(paddleocr, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(NotInstalled, match="pip install"):
        PaddleOcrEngine(backend="paddle")


def test_groups_of_signs_become_words() -> None:
    polygon = ((0.0, 0.0), (100.0, 0.0), (100.0, 10.0), (0.0, 10.0))
    groups = ["No", ". ", "12", " (", "x"]
    edges = [0, 20, 40, 60, 80, 90]
    boxes = [((a, 0.0), (b, 0.0), (b, 10.0), (a, 10.0)) for a, b in pairwise(edges)]
    spans = paddleocr._spans("No. 12 (x", groups, boxes, polygon)
    assert [round(edge, 9) for span in spans for edge in span] == [0, 0.3, 0.4, 0.6, 0.7, 0.9]
    # Groups that don't spell the text say nothing about where its words are.
    assert paddleocr._spans("No. 12 [x", groups, boxes, polygon) == ()
