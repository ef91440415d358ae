"""OCR libraries in a plain loop, as their documentation shows; the model's loading is not timed."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Read = Callable[[Path], list[str]]


def _loop(read: Read, images: list[Path], out: Path) -> float:
    """Seconds for all images; one untimed image first, so that loading is not counted."""
    read(images[0])
    started = time.perf_counter()
    texts = [read(image) for image in images]
    seconds = time.perf_counter() - started
    for image, lines in zip(images, texts, strict=True):
        (out / f"{image.stem}.txt").write_text("\n".join(lines))
    return seconds


def rapidocr_defaults(images: list[Path], out: Path) -> float:
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "critical"})
    return _loop(lambda image: list(engine(str(image)).txts or ()), images, out)


def rapidocr_tuned(images: list[Path], out: Path) -> float:
    """OpenVINO, no line classifier, detection at 960, one line a batch: its best settings here."""
    from rapidocr import EngineType, RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Det.engine_type": EngineType.OPENVINO,
            "Rec.engine_type": EngineType.OPENVINO,
            "Det.limit_type": "max",
            "Det.limit_side_len": 960,
            "Rec.rec_batch_num": 1,
        }
    )
    return _loop(lambda image: list(engine(str(image)).txts or ()), images, out)


def paddleocr(images: list[Path], out: Path) -> float:
    """PaddleOCR 3 on onnxruntime with the same model files, all cores."""
    from ocr.engines.paddleocr_models import wheel_models
    from ocr.engines.torch_library import import_torch

    os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")
    import_torch()
    from paddleocr import PaddleOCR

    with tempfile.TemporaryDirectory() as folder:
        engine = PaddleOCR(
            **wheel_models(Path(folder)),
            use_doc_orientation_classify=False,
            use_doc_unwarping=False,
            use_textline_orientation=False,
            device="cpu",
            engine="onnxruntime",
            engine_config={"intra_op_num_threads": os.cpu_count(), "log_severity_level": 4},
        )
        return _loop(lambda image: list(engine.predict(str(image))[0]["rec_texts"]), images, out)


def tesseract(images: list[Path], out: Path) -> float:
    """The program in as many processes as there are cores, one thread each."""
    env = {**os.environ, "OMP_THREAD_LIMIT": "1"}

    def read(image: Path) -> None:
        subprocess.run(
            ["tesseract", str(image), str(out / image.stem), "-l", "eng"],
            env=env,
            check=True,
            capture_output=True,
        )

    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, images))
    return time.perf_counter() - started


def ocrmypdf(images: list[Path], out: Path) -> float:
    """All images as one PDF, a job a core; it reads with Tesseract and writes a searchable PDF."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        source, target, text = (Path(folder) / name for name in ("in.pdf", "out.pdf", "out.txt"))
        pages = [Image.open(image).convert("RGB") for image in images]
        pages[0].save(source, save_all=True, append_images=pages[1:], resolution=150)
        command = ["ocrmypdf", "--jobs", str(os.cpu_count()), "-l", "eng", "--output-type", "pdf"]
        command += ["--optimize", "0", "--sidecar", str(text), str(source), str(target)]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        for image, page in zip(images, text.read_text().split("\f"), strict=False):
            (out / f"{image.stem}.txt").write_text(page)
    return seconds
