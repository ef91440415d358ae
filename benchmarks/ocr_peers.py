"""The same pages through OCR libraries and programs, and through this platform, in one run.

    .venv/bin/python benchmarks/ocr_peers.py --data FOLDER [--dense 12] [--rounds 1] [--only "A;B"]
    .venv/bin/python benchmarks/ocr_peers.py --long 500

FOLDER holds images with their text beside them (`NNN.jpg`, `NNN.txt`). `--dense` draws that many
pages of small print and measures on them, too. `--long` reads one PDF of that many pages and shows
pages/s and memory along the way. Each contender runs in a process of its own, turn about; memory
is the most that it and its children hold at once (PSS: shared pages are counted once).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.memory import Memory, memory_mb  # noqa: E402  (the path above)
from benchmarks.peers import libraries, ours  # noqa: E402
from ocr.scoring import score  # noqa: E402

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
BASE = "rapidocr, defaults"
CONTENDERS = {
    BASE: libraries.rapidocr_defaults,
    "rapidocr, tuned": libraries.rapidocr_tuned,
    "PaddleOCR, onnxruntime": libraries.paddleocr,
    "Tesseract, a process a core": libraries.tesseract,
    "OCRmyPDF": libraries.ocrmypdf,
    "ours, ocr_batch": ours.ocr_batch,
    "ours, ocr_batch in f32": ours.ocr_batch_f32,
    "ours, API and workers": ours.api,
    "ours, model server": ours.model_server,
}


def measure(name: str, folder: Path, out: Path) -> tuple[float, float]:
    """(seconds, MB) of one contender over the images in the folder."""
    command = [sys.executable, __file__, "--run", name, "--data", str(folder), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with Memory(process.pid) as memory:
            answer, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name} failed")
    return float(answer.splitlines()[-1]), memory.most


def compare(title: str, folder: Path, names: list[str], rounds: int) -> None:
    images = find_images(folder)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, float] = {}
    quality: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as out:
                took, most = measure(name, folder, Path(out))
                seconds[name].append(took)
                memory[name] = max(memory.get(name, 0), most)
                quality[name] = judge(images, Path(out))
            print(f"  {name}: {took:.1f} s", file=sys.stderr)
    base = statistics.median(seconds[BASE]) if BASE in seconds else None
    print(f"\n{title}: {len(images)} pages, median of {rounds}, {os.cpu_count()} cores\n")
    print("| | pages/s | ratio | CER | word F1 | peak MB |\n| --- | --- | --- | --- | --- | --- |")
    for name in names:
        median = statistics.median(seconds[name])
        ratio = f"{base / median:.2f}" if base else ""
        cer, f1 = quality[name]
        print(
            f"| {name} | {len(images) / median:.2f} | {ratio} | {cer:.4f} | {f1:.4f} "
            f"| {memory[name]:.0f} |"
        )


def find_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def judge(images: list[Path], out: Path) -> tuple[float, float]:
    """(micro CER, micro word F1), case folded, white space collapsed; no text counts as CER 1."""
    pairs = []
    for image in images:
        read = out / f"{image.stem}.txt"
        pairs.append(
            (image.with_suffix(".txt").read_text(), read.read_text() if read.exists() else None)
        )
    scores = score(pairs)
    return scores.cer_micro, scores.word_f1_micro


def draw_dense(folder: Path, pages: int) -> None:
    """A4 at 150 dpi, one column of small print, about 3,000 characters a page."""
    from random import Random

    from ocr import sample_texts as texts
    from ocr.sample_sheet import Sheet

    for number in range(pages):
        random = Random(number)
        sheet = Sheet((1240, 1754), margin=100)
        while sheet.y < 1600:
            words = [random.choice(texts.WORDS) for _ in range(60)]
            sheet.paragraph(" ".join(words).capitalize() + ".", 21, gap=16)
        sheet.image.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text("\n".join(sheet.lines))


def read_long(pages: int) -> None:
    """Pages/s and memory of `ocr_batch` along one long PDF: both should be flat."""
    from ocr.samples import multi_page_pdf

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        multi_page_pdf(folder / "long.pdf", pages)
        env = {**os.environ, "DATA_DIR": str(folder / "data"), "MLFLOW_TRACKING_URI": "none"}
        env.pop("DATABASE_URL", None)
        command = [sys.executable, "manage.py", "ocr_batch", str(folder / "long.pdf"), "--out"]
        process = subprocess.Popen([*command, str(folder / "out")], cwd=ROOT, env=env)
        started = time.perf_counter()
        print("\n| seconds | pages | pages/s since | MB |\n| --- | --- | --- | --- |")
        before, last = 0, started
        while process.poll() is None:
            time.sleep(5)
            now, done = time.perf_counter(), _progress(folder / "data" / "db.sqlite3")
            mb = memory_mb(process.pid)
            rate = (done - before) / (now - last)
            print(f"| {now - started:.0f} | {done} | {rate:.1f} | {mb:.0f} |")
            before, last = done, now


def _progress(database: Path) -> int:
    import sqlite3

    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM ocr_pageresult").fetchone()[0]
    except sqlite3.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dense", type=int, default=0, metavar="PAGES")
    parser.add_argument("--long", type=int, default=0, metavar="PAGES")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="names of contenders, with semicolons")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(CONTENDERS[options.run](find_images(options.data), options.out))
        return
    names = [name for name in CONTENDERS if not options.only or name in options.only.split(";")]
    if shutil.which("ocrmypdf") is None and "OCRmyPDF" in names:
        print("ocrmypdf is not installed; it is left out", file=sys.stderr)
        names.remove("OCRmyPDF")
    if options.data:
        compare(options.data.name, options.data.resolve(), names, options.rounds)
    if options.dense:
        with tempfile.TemporaryDirectory() as folder:
            draw_dense(Path(folder), options.dense)
            compare("dense A4", Path(folder), names, options.rounds)
    if options.long:
        read_long(options.long)


if __name__ == "__main__":
    main()
