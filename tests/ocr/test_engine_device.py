"""Which device is chosen: told apart by name, refused where it isn't there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mlops.exceptions import EngineUnavailable
from ocr.engines import device
from ocr.engines.tesseract import TesseractEngine


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_devices", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_devices", lambda: 2)


@pytest.fixture
def onnxruntime_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "onnxruntime_providers", lambda: ("tensorrt", "cuda", "cpu"))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("auto", "auto"),
        ("cpu", "cpu"),
        ("cuda", "cuda:0"),
        ("cuda:0", "cuda:0"),
        ("cuda:3", "cuda:3"),
    ],
)
def test_names(asked: str, meant: str) -> None:
    assert device.parse_device(asked) == meant


@pytest.mark.parametrize("asked", ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA"])
def test_names_that_are_none(asked: str) -> None:
    with pytest.raises(EngineUnavailable, match="Choose auto, cpu or cuda:N"):
        device.parse_device(asked)


def test_an_engine_refuses_a_device_that_is_none() -> None:
    with pytest.raises(EngineUnavailable, match="no device 'tpu'"):
        TesseractEngine(device="tpu")


@pytest.mark.usefixtures("no_gpu")
class TestWithoutGpu:
    def test_auto_is_openvino(self) -> None:
        assert device.choose_ppocr("auto", "auto") == ("openvino", "cpu")
        assert device.choose_ppocr("onnxruntime", "auto") == ("onnxruntime", "cpu")

    def test_auto_without_openvino_is_onnxruntime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "find_spec", lambda name: None)
        assert device.choose_ppocr("auto", "cpu") == ("onnxruntime", "cpu")

    def test_a_gpu_that_is_asked_for_is_missed(self) -> None:
        with pytest.raises(EngineUnavailable, match="no cuda:1 here: no NVIDIA driver"):
            device.choose_ppocr("auto", "cuda:1")


@pytest.mark.usefixtures("two_gpus")
class TestWithGpus:
    def test_auto_stays_on_the_cpu_where_onnxruntime_has_no_cuda(self) -> None:
        assert device.choose_ppocr("auto", "auto") == ("openvino", "cpu")

    def test_onnxruntime_without_cuda_names_the_wheel(self) -> None:
        with pytest.raises(EngineUnavailable, match="pip install onnxruntime-gpu"):
            device.choose_ppocr("auto", "cuda:0")

    @pytest.mark.usefixtures("onnxruntime_gpu")
    def test_auto_is_the_first_gpu(self) -> None:
        assert device.choose_ppocr("auto", "auto") == ("onnxruntime", "cuda:0")
        assert device.choose_ppocr("auto", "cuda:1") == ("onnxruntime", "cuda:1")
        assert device.choose_ppocr("auto", "cpu") == ("openvino", "cpu")
        assert device.choose_ppocr("openvino", "auto") == ("openvino", "cpu")

    @pytest.mark.usefixtures("onnxruntime_gpu")
    def test_a_gpu_too_many_is_missed(self) -> None:
        with pytest.raises(EngineUnavailable, match="this process sees 2, from cuda:0"):
            device.choose_ppocr("onnxruntime", "cuda:2")

    def test_openvino_has_no_cuda(self) -> None:
        with pytest.raises(EngineUnavailable, match="OpenVINO has no CUDA"):
            device.choose_ppocr("openvino", "cuda:0")


def test_a_provider_that_onnxruntime_lacks_names_the_wheel() -> None:
    from ocr.engines.ppocr_onnxruntime import open_session
    from ocr.engines.wheel_models import DETECTION, wheel_model

    model = wheel_model(DETECTION, engine="rapidocr")
    for name in ("cuda", "tensorrt"):
        with pytest.raises(EngineUnavailable, match="onnxruntime-gpu"):
            open_session(model, threads=1, device="cuda:0", providers=(name,))
    with pytest.raises(EngineUnavailable, match="Choose among: tensorrt, cuda"):
        open_session(model, threads=1, device="cuda:0", providers=("rocm",))


def test_a_file_that_is_no_network_is_named(tmp_path) -> None:
    from ocr.engines.ppocr_onnxruntime import open_session

    broken = tmp_path / "det.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(EngineUnavailable, match=r"can't load .*det\.onnx"):
        open_session(broken, threads=1)
    with pytest.raises(EngineUnavailable, match=r"can't load .*none\.onnx"):
        open_session(tmp_path / "none.onnx", threads=1)


def test_the_machine_in_words() -> None:
    assert "CPU core" in device.describe_machine()
    assert "CUDA GPU" in device.describe_machine()


def test_one_setting_for_all_engines(tmp_path) -> None:
    """OCR_DEVICE goes to every engine but one whose own options name a device."""
    entry = {"BACKEND": "tests.fakes.FakeOcrEngine", "OPTIONS": {"device": "cuda:1"}}
    program = "from mlops.settings import ENGINES; import json; print(json.dumps(ENGINES['ocr']))"
    environment = {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "DATA_DIR": str(tmp_path),
        "OCR_DEVICE": "cpu",
        "OCR_ENGINES": json.dumps({"other": entry}),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    devices = {
        alias: entry["OPTIONS"]["device"] for alias, entry in json.loads(done.stdout).items()
    }
    assert devices == {"rapidocr": "cpu", "tesseract": "cpu", "paddleocr": "cpu", "other": "cuda:1"}
