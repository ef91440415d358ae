"""A recogniser trained on lines of receipts, before and after, beside PP-OCR's on the same lines.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/ocr_recogniser.py [--data ../shared/data/receipts]
        [--work FOLDER] [--drawn 12000] [--drawn-epochs 2] [--epochs 20]

FOLDER of `--data` holds receipts (`NNN.jpg`) with their boxes beside them (`NNN.csv`: x1,y1,…,x4,y4
and the text). Each fifth receipt is read at the end and never learnt from, one in ten of the others
chooses the checkpoint. It learns from drawn lines first, then from the receipts; what was trained
is read with as it is served, by the engines `easyocr` and `recogniser`. With `--work` a training
that was cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402  (the path above)
import numpy as np  # noqa: E402

from benchmarks.rendered_lines import rows_draw, rows_write  # noqa: E402
from finetune.engines.base import Event, Finished, Metrics, Notice, TrainSpec  # noqa: E402
from ocr.scoring import Scores, score  # noqa: E402

OPTIONS = {"device": "cpu", "languages": "en", "log_steps": 50, "max_width": 832}
Reader = Callable[[np.ndarray, Sequence[np.ndarray]], list[str]]


@dataclass(frozen=True)
class Receipt:
    """A page, RGB, its boxes, float32 (4, 2) clockwise from the top left, and their texts."""

    page: np.ndarray
    boxes: list[np.ndarray]
    texts: list[str]

    def lines(self) -> list[tuple[str, np.ndarray]]:
        grey = cv2.cvtColor(self.page, cv2.COLOR_RGB2GRAY)
        return [(text, _cut(grey, box)) for text, box in zip(self.texts, self.boxes, strict=True)]


class Teller:
    """Prints what people would see; keeps the last word."""

    def __init__(self) -> None:
        self.finished: Finished | None = None

    def tell(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finished = event
        if isinstance(event, Notice):
            print(f"  {event.level}: {event.message}", file=sys.stderr)
        if isinstance(event, Metrics):
            named = " ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            print(f"  step {event.step}: {named}", file=sys.stderr)

    def asked_to_stop(self) -> bool:
        return False


def receipts(folder: Path) -> list[Receipt]:
    return [_receipt(path) for path in sorted(folder.glob("*.jpg"))]


def _receipt(path: Path) -> Receipt:
    page = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    boxes, texts = [], []
    for line in path.with_suffix(".csv").read_text(encoding="utf-8", errors="replace").splitlines():
        *corners, text = line.split(",", 8)
        if len(corners) == 8 and text.strip():
            boxes.append(np.float32([float(value) for value in corners]).reshape(4, 2))
            texts.append(" ".join(text.split()))
    return Receipt(page, boxes, texts)


def _cut(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    left, top = np.maximum(box.min(axis=0), 0).astype(int)
    right, bottom = np.ceil(box.max(axis=0)).astype(int)
    return grey[top : max(bottom, top + 2), left : max(right, left + 2)]


def trained(work: Path, *, begin_with: str = "", **options: object) -> tuple[Finished, float, str]:
    """(what came of it, CPU seconds, its newest checkpoint)."""
    from finetune.engines.ocr_recognition import train

    known = sorted((work / "checkpoints").glob("checkpoint-*/complete.json"), key=_step)
    spec = TrainSpec(
        method="ocr-recognition",
        options=OPTIONS | options,
        folder=str(work),
        begin_with=begin_with,
        resume=str(known[-1].parent) if known else "",
    )
    teller, before = Teller(), _cpu_seconds()
    train(spec, teller)
    assert teller.finished is not None
    best = work / "checkpoints" / f"checkpoint-{teller.finished.step}"
    return teller.finished, _cpu_seconds() - before, str(best)


def _step(path: Path) -> int:
    return int(path.parent.name.rpartition("-")[2])


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def by_recogniser(folder: Path) -> Reader:
    """Our engine's recogniser, from its ONNX file."""
    from ocr.engines.recogniser import RecogniserEngine

    engine = RecogniserEngine(folder=folder, threads=_threads())

    def read(page: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
        return [decoded.text for decoded in engine.recognise(page, boxes)]

    return read


def by_easyocr(folder: Path) -> Reader:
    """EasyOCR's library with the custom network; its own detector is left out."""
    from ocr.engines.easyocr import EasyOcrEngine

    engine = EasyOcrEngine(folder=folder, threads=_threads(), detector="rapidocr")

    class Known:
        boxes: Sequence[np.ndarray] = ()

        def find(self, image: np.ndarray) -> list[np.ndarray]:
            return list(self.boxes)

    known = engine._finder = Known()

    def read(page: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
        texts = []
        for box in boxes:
            known.boxes = [box]
            lines = engine.read(page, languages=("en",)).lines
            texts.append(lines[0].text if lines else "")
        return texts

    return read


def by_ppocr() -> Reader:
    """PP-OCRv6's recogniser as the rapidocr engine feeds it, in f32, Latin characters alone."""
    from ocr.engines import ppocr
    from ocr.engines.ppocr_onnxruntime import OnnxNetworks
    from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model

    networks = OnnxNetworks(
        *(wheel_model(name, engine="rapidocr") for name in (DETECTION, RECOGNITION)),
        threads=_threads(),
    )
    keep = ppocr.latin_indices(networks.characters)
    characters = [networks.characters[index] for index in keep]
    recognise = networks.recogniser(keep)

    def read(page: np.ndarray, boxes: Sequence[np.ndarray]) -> list[str]:
        crops = [ppocr.crop(ppocr.bgr(page), box) for box in boxes]
        texts = [""] * len(boxes)
        batches = ppocr.batches(crops, 1)
        answers = recognise([batch for _, batch in batches])
        for (members, _), (indices, sure) in zip(batches, answers, strict=True):
            for row, index in enumerate(members):
                texts[index] = ppocr.decode(indices[row], sure[row], characters).text
        return texts

    return read


def measured(read: Reader, unseen: Sequence[Receipt]) -> tuple[Scores, Scores, float]:
    """(with spaces, without spaces, lines a second)."""
    began, pairs = time.perf_counter(), []
    for receipt in unseen:
        pairs += zip(receipt.texts, read(receipt.page, receipt.boxes), strict=True)
    seconds = time.perf_counter() - began
    bare = [(one.replace(" ", ""), other.replace(" ", "")) for one, other in pairs]
    return score(pairs), score(bare), len(pairs) / seconds


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/receipts")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--drawn", type=int, default=12_000)
    parser.add_argument("--drawn-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(given, given.work or Path(temporary))


def run(given: argparse.Namespace, work: Path) -> None:
    found = receipts(given.data)
    unseen = found[::5]
    known = [one for number, one in enumerate(found) if number % 5]
    choosing, learnt = known[::10], [one for number, one in enumerate(known) if number % 10]
    texts = [text for receipt in learnt for text in receipt.texts]
    letters = "".join(sorted(set("".join(texts)) | {" "}))
    words = sorted({word for text in texts for word in text.split()})
    drawn, real = work / "drawn", work / "receipts"
    rows_draw(drawn, "train", given.drawn, words=words, letters=letters, seed=1)
    rows_draw(drawn, "validation", 400, words=words, letters=letters, seed=2)
    for split, some in (("train", learnt), ("validation", choosing)):
        rows_write(real, split, [line for receipt in some for line in receipt.lines()])
    print(
        f"{len(found)} receipts: {len(learnt)} to learn from ({len(texts)} lines), "
        f"{len(choosing)} to choose by, {len(unseen)} unseen "
        f"({sum(len(one.texts) for one in unseen)} lines); {_threads()} threads"
    )
    began = time.monotonic()
    first, first_cpu, checkpoint = trained(drawn, epochs=given.drawn_epochs, characters=letters)
    second, second_cpu, _ = trained(
        real, epochs=given.epochs, characters=letters, begin_with=checkpoint
    )
    print(
        f"Trained in {time.monotonic() - began:.0f} s: {first_cpu:.0f} s of CPU on {given.drawn} "
        f"drawn lines ({first.step} steps), {second_cpu:.0f} s on the receipts ({second.step} "
        f"steps); {second.facts['parameters']} weights. Parity: {second.parity}\n"
    )
    show(
        {
            "before: trained on drawn lines alone": by_recogniser(drawn / "result"),
            "trained on receipts, engine recogniser": by_recogniser(real / "result"),
            "the same, engine easyocr": by_easyocr(real / "result"),
            "PP-OCRv6 small, engine rapidocr": by_ppocr(),
        },
        unseen,
    )


def show(readers: dict[str, Reader], unseen: Sequence[Receipt]) -> None:
    print("| | CER | CER without spaces | WER | lines/s |\n| --- | --- | --- | --- | --- |")
    for name, read in readers.items():
        spaced, bare, pace = measured(read, unseen)
        print(
            f"| {name} | {spaced.cer_micro:.4f} | {bare.cer_micro:.4f} "
            f"| {spaced.wer_micro:.4f} | {pace:.0f} |"
        )


if __name__ == "__main__":
    main()
