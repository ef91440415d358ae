"""OCR engines on an NVIDIA GPU: they say that they run there, and read what the CPU reads.

Needs a CUDA build of torch, and onnxruntime-gpu in place of onnxruntime (requirements/README.md).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops.exceptions import EngineUnavailable
from ocr.engines import device
from ocr.engines.base import OcrEngine
from ocr.engines.easyocr import EasyOcrEngine
from ocr.engines.paddleocr import PaddleOcrEngine
from ocr.engines.ppocr_onnxruntime import OnnxNetworks
from ocr.engines.transformers import TransformersEngine
from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model
from ocr.selftest import PASSING_CER, run_self_test
from tests.ocr import engine_zoo

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


def paddleocr(device: str) -> OcrEngine:
    return PaddleOcrEngine(device=device)


def easyocr(device: str) -> OcrEngine:
    return EasyOcrEngine(recogniser="letters", model_dir=engine_zoo.letters_folder(), device=device)


def trocr(device: str) -> OcrEngine:
    return TransformersEngine(model=engine_zoo.trocr_folder(), languages=["en"], device=device)


def llava(device: str) -> OcrEngine:
    return TransformersEngine(
        model=engine_zoo.llava_folder(), languages=["en"], device=device, dtype="float32"
    )


@pytest.mark.parametrize("build", [paddleocr, easyocr, trocr, llava])
@pytest.mark.parametrize("asked", ["auto", "cuda:0"])
def test_the_self_test_passes_on_the_gpu(build: Callable[[str], OcrEngine], asked: str) -> None:
    engine = build(asked)
    assert engine.device.startswith("cuda:0 ")
    assert [trial.cer for trial in run_self_test(engine) if trial.cer > PASSING_CER] == []


@pytest.mark.parametrize("build", [paddleocr, easyocr, trocr])
def test_cpu_and_gpu_read_the_same(build: Callable[[str], OcrEngine]) -> None:
    texts = [
        sorted(line.text for line in build(where).read(page, languages=("en",)).lines)
        for page in [engine_zoo.page(1)]
        for where in ("cpu", "cuda:0")
    ]
    assert texts[0] == texts[1] != []


@pytest.mark.parametrize("providers", [("cuda",), ("tensorrt", "cuda")], ids="+".join)
def test_networks_of_ppocr_on_the_gpu(providers: tuple[str, ...], tmp_path) -> None:
    if "tensorrt" in providers and "tensorrt" not in device.onnxruntime_providers():
        pytest.skip("this onnxruntime is built without TensorRT")
    files = [wheel_model(name, engine="rapidocr") for name in (DETECTION, RECOGNITION)]
    page = engine_zoo.page(0)[None, :352]
    on_gpu = OnnxNetworks(
        *files, threads=1, device="cuda:0", providers=providers, cache_dir=tmp_path
    )
    assert on_gpu.device == f"cuda:0 onnxruntime {'+'.join(providers)} f32"
    on_cpu = OnnxNetworks(*files, threads=1)
    assert abs(on_gpu.detect(page) - on_cpu.detect(page)).max() < 0.05


def test_a_gpu_too_many_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match=f"this process sees {device.cuda_devices()}"):
        device.choose_torch(f"cuda:{device.cuda_devices()}")
