"""A recogniser that was trained here, as an engine of its own and inside EasyOCR."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from PIL import Image, ImageDraw, ImageFont

from mlops import engines
from mlops.engines import EngineSpec
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.stored_folders import folder_delete, folder_put
from ocr import routing, services
from ocr.engines.base import OcrEngine
from ocr.engines.easyocr import EasyOcrEngine
from ocr.engines.recogniser import RecogniserEngine
from ocr.models import OcrJob, TrainedEngine
from ocr.tasks import extract_text
from tests.finetune.recogniser import drawn
from tests.ocr import engine_zoo

# The first of its tests trains the recogniser.
pytestmark = pytest.mark.timeout(600)

TEXTS = ("ABE 0123", "HTC 99", "E75 BC8")
BACKENDS = ["openvino", "onnxruntime"]


def page(degrees: float = 0) -> np.ndarray:
    image = Image.new("RGB", (640, 360), "white")
    pen = ImageDraw.Draw(image)
    for place, text in enumerate(TEXTS):
        where = (40 + 30 * place, 40 + 90 * place)
        pen.text(where, drawn.spaced(text), font=ImageFont.load_default(30), fill=0)
    return np.asarray(image.rotate(degrees, fillcolor="white", resample=Image.Resampling.BICUBIC))


def read(engine: OcrEngine, image: np.ndarray | None = None) -> list[str]:
    reading = engine.read(page() if image is None else image, languages=("en",))
    return [line.text for line in sorted(reading.lines, key=lambda line: line.polygon[0][1])]


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest) -> RecogniserEngine:
    return RecogniserEngine(folder=drawn.trained_folder(), threads=1, backend=request.param)


# -- the engine ---------------------------------------------------------------------------------


def test_it_reads_a_page(engine: RecogniserEngine) -> None:
    assert read(engine) == list(TEXTS)
    assert engine.model_version.startswith("recogniser ")
    assert engine.device.startswith("cpu onnxruntime f32, detector ")
    assert engine.alphabet == {*drawn.LETTERS, " "}


def test_lines_are_where_they_stand_and_their_words_too(engine: RecogniserEngine) -> None:
    image = page()
    reading = engine.read(image, languages=("en",))
    first = min(reading.lines, key=lambda line: line.polygon[0][1])
    (left, top), (right, _), (_, bottom) = first.polygon[:3]
    assert 25 < left < 45 and 30 < top < 55
    assert 0.5 < first.confidence <= 1
    assert len(first.spans) == 2
    ink = (image[int(top) : int(bottom), :, 0] < 128).any(axis=0)
    for begin, end in first.spans:
        word = slice(round(left + begin * (right - left)), round(left + end * (right - left)))
        assert ink[word].mean() > 0.5


def test_slanted_lines_are_cut_upright(engine: RecogniserEngine) -> None:
    assert read(engine, page(3)) == list(TEXTS)


def test_a_line_reads_alike_alone_and_among_others(engine: RecogniserEngine) -> None:
    boxes = [np.float32([[30, y], [300, y], [300, y + 40], [30, y + 40]]) for y in (36, 126, 216)]
    together = [found.text for found in engine.recognise(page(), boxes)]
    assert together == [engine.recognise(page(), [box])[0].text for box in boxes]
    assert engine.recognise(page(), []) == []


def test_paper_without_text_has_no_lines(engine: RecogniserEngine) -> None:
    assert engine.read(np.full((200, 300, 3), 255, np.uint8), languages=("en",)).lines == ()


def test_what_it_was_not_trained_for_is_refused(engine: RecogniserEngine) -> None:
    with pytest.raises(EngineUnavailable, match="was not trained to read ko: it reads en"):
        engine.read(page(), languages=("en", "ko"))
    with pytest.raises(ValueError, match="Expected RGB uint8"):
        engine.read(np.zeros((20, 20), np.uint8), languages=("en",))
    assert engine.read(page(), languages=("auto",)).lines


def test_a_folder_that_holds_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=f"finds no recogniser.json in {tmp_path}"):
        RecogniserEngine(folder=tmp_path)
    described = {"format": 99}
    (tmp_path / "recogniser.json").write_text(json.dumps(described))
    with pytest.raises(EngineUnavailable, match="is of form 99, and this release reads 1"):
        RecogniserEngine(folder=tmp_path)


@pytest.mark.parametrize("library", ["onnxruntime", "openvino", "cv2", "rapidocr"])
def test_a_missing_library_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    from ocr.engines import recogniser

    monkeypatch.setattr(recogniser, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(EngineUnavailable, match=f"needs {library}: pip install -r requirements"):
        RecogniserEngine(folder="nowhere", backend="openvino")


# -- inside EasyOCR -------------------------------------------------------------------------------


class TestEasyOcr:
    pytestmark = engine_zoo.needs("easyocr")

    def test_it_reads_the_same(self) -> None:
        engine = EasyOcrEngine(folder=drawn.trained_folder(), threads=1, label="letters@1")
        assert read(engine) == list(TEXTS)
        assert engine.installed == {"en"}
        assert engine.model_version.startswith("letters@1 ")

    def test_below_a_folder_as_mlflow_has_it(self, tmp_path: Path) -> None:
        shutil.copytree(drawn.trained_folder(), tmp_path / "model")
        assert EasyOcrEngine(folder=tmp_path, threads=1).models == (
            str(tmp_path / "model" / "recogniser.pth"),
        )


# -- as requests call it ------------------------------------------------------------------------


@pytest.fixture
def stored(fake_engines: None, db: None) -> Iterator[str]:
    """The recogniser's files in the storage; the other engine is a fake."""
    folder = "models/aa/letters"
    folder_put(drawn.trained_folder(), folder)
    yield f"stored:{folder}"
    folder_delete(folder)


def saved(source: str, number: int = 1, **more: object) -> TrainedEngine:
    return services.trained_engine_save(
        name="letters", number=number, source=source, languages=["en"], **more
    )


def submitted(api, **form: str):
    content = SimpleUploadedFile("page.png", _png(), "image/png")
    return api.post("/api/v1/ocr/jobs", {"file": content, "language": "en", **form})


def _png() -> bytes:
    from io import BytesIO

    out = BytesIO()
    Image.fromarray(page()).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "alias",
    [
        "recogniser:letters@1",
        "recogniser:letters",
        pytest.param("easyocr:letters@1", marks=engine_zoo.needs("easyocr")),
    ],
)
def test_a_request_names_it_and_the_result_says_which_version(api, stored: str, alias: str) -> None:
    # This process has its engines already, as a worker has when a training ends.
    assert "recogniser:letters" not in engines.cache("ocr").specs
    saved(stored)
    job = submitted(api, engine=alias).json()
    extract_text(job["id"])
    (result,) = OcrJob.objects.get(pk=job["id"]).results.all()
    assert result.error == ""
    assert sorted(filter(None, result.text.split("\n"))) == sorted(TEXTS)
    assert result.engine == alias
    assert result.model_version.startswith("letters@1 ")


def test_the_name_without_a_number_goes_over_to_another_version(api, stored: str) -> None:
    first, second = saved(stored), saved(stored, 2)
    assert (first.current, second.current) == (True, False)

    def version() -> str:
        return engines.cache("ocr").get("recogniser:letters").model_version.split()[0]

    assert version() == "letters@1"
    services.trained_engine_choose(engine=second)
    assert version() == "letters@2"
    assert engines.cache("ocr").get("recogniser:letters@1").model_version.startswith("letters@1")


def test_saving_it_again_changes_nothing(stored: str) -> None:
    one = saved(stored, cer=0.02)
    assert saved("stored:elsewhere", cer=0.5) == one
    one.refresh_from_db()
    assert (one.source, one.cer, one.current) == (stored, 0.02, True)


def test_one_that_is_gone_is_not_known_any_more(api, stored: str) -> None:
    one, two = saved(stored), saved(stored, 2)
    engines.cache("ocr").get("recogniser:letters")
    with pytest.raises(ApplicationError, match="Choose another version for it first"):
        services.trained_engine_delete(engine=one)
    services.trained_engine_delete(engine=two)
    services.trained_engine_delete(engine=one)
    assert not any(alias.startswith("recogniser:") for alias in engines.cache("ocr").specs)
    answer = submitted(api, engine="recogniser:letters")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_engine"


def test_auto_never_takes_it(stored: str) -> None:
    """What reads one kind of line well reads most documents badly."""
    services.trained_engine_save(name="plates", number=1, source=stored, languages=["ja"])
    specs = engines.specs("ocr")
    asked = routing.choose(specs, engine="recogniser:plates", languages=("ja",), default="fake")
    assert asked.engine == "recogniser:plates"
    with pytest.raises(ApplicationError, match="No engine reads 'ja'"):
        routing.choose(specs, engine="auto", languages=("ja",), default="fake")


def test_files_that_are_gone_fail_the_job_with_that_reason(api, stored: str) -> None:
    saved("stored:models/aa/gone")
    job = submitted(api, engine="recogniser:letters").json()
    extract_text(job["id"])
    error = api.get(job["url"]).json()["error"]
    assert error["code"] == "engine_unavailable"
    assert "'models/aa/gone' is not in the storage" in error["message"]


def test_a_language_that_is_none_is_refused(stored: str) -> None:
    with pytest.raises(ApplicationError, match="no language 'english'"):
        services.trained_engine_save(name="x", number=1, source=stored, languages=["english"])


def test_settings_may_name_one_too(stored: str, settings) -> None:
    entry = {
        "BACKEND": "ocr.engines.recogniser.RecogniserEngine",
        "SOURCE": stored,
        "OPTIONS": {"languages": ["en"], "threads": 1},
    }
    settings.ENGINES = {"ocr": {**settings.ENGINES["ocr"], "plates": entry}}
    engines._caches.clear()
    assert read(engines.cache("ocr").get("plates")) == list(TEXTS)
    spec = engines.spec("ocr", "plates").here()
    assert spec.source == ""
    assert Path(spec.options["folder"], "recogniser.onnx").is_file()


def test_the_command_that_tries_engines_knows_it(stored: str, capsys) -> None:
    saved(stored)
    call_command("ocr_engines", "recogniser:letters@1", "--no-test", "--json")
    (tried,) = json.loads(capsys.readouterr().out)["engines"]
    assert tried["state"] == "ok"
    assert tried["languages"] == ["en"]
    assert tried["model_version"].startswith("letters@1 ")


def test_an_engine_without_a_source_is_as_it_was() -> None:
    spec = EngineSpec("fake", "tests.fakes.FakeOcrEngine")
    assert spec.here() is spec
