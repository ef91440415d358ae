"""A made-up dataset of a million conversations, about 1 GB: imported, checked, split, looked into.

    .venv/bin/python benchmarks/dataset_import.py [--rows 1000000]

`manage.py dataset_import` runs as a process of its own, on SQLite; what is printed of it is the
most memory it ever held. Then another process opens pages of the rows and searches them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOK = """
import json, os, resource, sys, time
sys.path.insert(0, os.getcwd())
import django
django.setup()
from finetune import selectors
from finetune.models import DatasetVersion
version = DatasetVersion.objects.select_related("dataset").get()
for name, look in (
    ("page 1", lambda: selectors.rows_page(version, split="", page=1, size=25)),
    ("page 9,000", lambda: selectors.rows_page(version, split="", page=9000, size=25)),
    ("page 900 of the test split",
     lambda: selectors.rows_page(version, split="test", page=900, size=25)),
    ("search, a word that fields are named by", lambda: selectors.rows_search(
        version, "assistant", split="", start=0, size=25)),
    ("search, a word of no row, 250,000 rows", lambda: selectors.rows_search(
        version, "zeppelinkreuzer", split="", start=0, size=25)),
):
    started = time.perf_counter()
    look()
    print(f"{name:42} {time.perf_counter() - started:6.2f} s")
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{'memory of that process':42} {held:6.0f} MB")
"""


def write(path: Path, rows: int) -> None:
    """Conversations of about 1 KB, a third of them Korean; one in a thousand without an answer."""
    chance = random.Random(7)
    letters, syllables = "abcdefghijklmnopqrstuvwxyz", [chr(c) for c in range(0xAC00, 0xD7A4, 7)]
    english = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(8000)]
    korean = ["".join(chance.choices(syllables, k=chance.randint(2, 4))) for _ in range(6000)]
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            words, count = (korean, 40) if n % 3 == 0 else (english, 68)
            asked = " ".join(chance.choices(words, k=count))
            answered = "" if n % 1000 == 999 else " ".join(chance.choices(words, k=count * 4 // 3))
            messages = [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answered},
            ]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def computed(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, rows)
        size = path.stat().st_size
        print(f"{rows:,} rows, {size / 1e9:.2f} GB of JSONL")
        environment = os.environ | {
            "DATA_DIR": f"{folder}/data",
            "DJANGO_SETTINGS_MODULE": "mlops.settings",
            "LOG_LEVEL": "WARNING",
        }
        environment.pop("DATABASE_URL", None)
        migrate = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
        command = [sys.executable, "manage.py", "dataset_import", str(path), "--name", "big"]
        before = computed(resource.getrusage(resource.RUSAGE_CHILDREN))
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--json", "--drop-bad-rows"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = json.loads(done.stdout)
        stored = sum(one.stat().st_size for one in Path(f"{folder}/data/media").rglob("*.*"))
        print(f"splits {figures['splits']}, bad rows {figures['rows_bad']:,}")
        speed = f"{rows / seconds:,.0f} rows/s, {size / seconds / 1e6:.1f} MB/s"
        print(f"imported in {seconds:.0f} s: {speed}; {computed(used) - before:.0f} s of CPU")
        print(f"most memory {used.ru_maxrss / 1024:.0f} MB; {stored / 1e6:.0f} MB in the storage")
        subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    main()
