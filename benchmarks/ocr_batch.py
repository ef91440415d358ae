"""Our `ocr_batch` beside rapidocr's own defaults in a plain loop: the same pages, in one run.

    .venv/bin/python benchmarks/ocr_batch.py --data FOLDER [--workers 2] [--rounds 3]

FOLDER holds images with their text beside them (`NNN.jpg`, `NNN.txt`). Prints pages/s, CER and
word F1 of both, and the ratio. Ours is timed as a user meets it: the whole command, models loaded
and rows, outputs and MLflow runs written; the peer's loop without loading its model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ocr.scoring import score  # noqa: E402  (the path above)

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def rapidocr_defaults(images: list[Path], out: Path) -> float:
    """Seconds for all images; one untimed image first, so that loading is not counted."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "critical"})
    engine(str(images[0]))
    started = time.perf_counter()
    texts = [engine(str(image)).txts or () for image in images]
    seconds = time.perf_counter() - started
    for image, lines in zip(images, texts, strict=True):
        (out / f"{image.stem}.txt").write_text("\n".join(lines))
    return seconds


def ocr_batch(folder: Path, out: Path, workers: int) -> tuple[float, float]:
    """(seconds the command says reading took, seconds of the whole command)."""
    with tempfile.TemporaryDirectory() as data:
        env = {**os.environ, "DATA_DIR": data}
        env.pop("DATABASE_URL", None)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True
        )
        command = [sys.executable, "manage.py", "ocr_batch", str(folder), "--out", str(out)]
        command += ["--formats", "txt", "--workers", str(workers), "--json"]
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        whole = time.perf_counter() - started
    return json.loads(done.stdout.splitlines()[-1])["seconds"], whole


def quality(images: list[Path], out: Path) -> tuple[float, float]:
    """(micro CER, micro word F1), case folded, white space collapsed."""
    pairs = []
    for image in images:
        read = out / f"{image.stem}.txt"
        pairs.append(
            (image.with_suffix(".txt").read_text(), read.read_text() if read.exists() else None)
        )
    scores = score(pairs)
    return scores.cer_micro, scores.word_f1_micro


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images = sorted(p for p in options.data.iterdir() if p.suffix.lower() in IMAGES)
    theirs, ours, whole = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        outs = Path(folder) / "theirs", Path(folder) / "ours"
        outs[0].mkdir()
        # Turn about, so that a slow minute of the machine meets both.
        for _ in range(options.rounds):
            theirs.append(rapidocr_defaults(images, outs[0]))
            reading, command = ocr_batch(options.data.resolve(), outs[1], options.workers)
            ours.append(reading)
            whole.append(command)
        qualities = [quality(images, out) for out in outs]
    base = statistics.median(theirs)
    rows = [
        ("rapidocr defaults, plain loop", base, qualities[0]),
        (f"ocr_batch --workers {options.workers}", statistics.median(ours), qualities[1]),
        ("  with start-up and MLflow", statistics.median(whole), qualities[1]),
    ]
    print(f"{len(images)} pages, median of {options.rounds} rounds, {os.cpu_count()} cores")
    print(f"{'':32} {'seconds':>8} {'pages/s':>8} {'ratio':>6} {'CER':>7} {'word F1':>8}")
    for name, seconds, (cer, f1) in rows:
        rate = len(images) / seconds
        print(f"{name:32} {seconds:8.1f} {rate:8.2f} {base / seconds:6.2f} {cer:7.4f} {f1:8.4f}")


if __name__ == "__main__":
    main()
