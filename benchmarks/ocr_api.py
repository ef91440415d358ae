"""What the API costs beside the engine: latency of one page, and throughput of many uploads.

    .venv/bin/python benchmarks/ocr_api.py --data FOLDER [--rounds 3] [--workers 2]

On PostgreSQL and Redis, with gunicorn and workers as they are deployed, MLflow on. Latency: one
image again and again through `POST /api/ocr/extract/sync`, beside the engine's own seconds for the
same call. Throughput: uploads by several clients at once until the last has ended, and the same
images by `ocr_batch` with as many processes, turn about.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.services import PostgresServer, RedisServer  # noqa: E402  (the path above)
from tests.stack import Stack, end  # noqa: E402

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def latencies(stack: Stack, image: Path, count: int) -> list[dict[str, float]]:
    """Milliseconds of each call: the whole, the engine, and the time between the row's moments."""
    found = []
    for _ in range(count):
        with image.open("rb") as file:
            started = time.perf_counter()
            answer = stack.client.post(
                "/api/ocr/extract/sync",
                files={"image_file": file},
                data={"language": "en", "force": "true"},
            )
            whole = (time.perf_counter() - started) * 1000
        assert answer.status_code == 200, answer.text
        job = stack.job({"id": answer.json()["data"]["job"]})
        engine = stack.result(job)["pages"][0]["seconds"] * 1000
        created, begun, ended = (
            datetime.fromisoformat(job[name]).timestamp() * 1000
            for name in ("created_at", "started_at", "finished_at")
        )
        found.append(
            {
                "whole": whole,
                "engine": engine,
                "overhead": whole - engine,
                "queue": begun - created,
                "worker": ended - begun - engine,
                "web": whole - (ended - created),
            }
        )
    return found


def uploads(stack: Stack, images: list[Path], clients: int) -> float:
    """Seconds from the first upload to the end of the last job; all must succeed."""
    url, headers = str(stack.client.base_url), dict(stack.client.headers)

    def send(share: list[Path]) -> list[str]:
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            keys = []
            for image in share:
                answer = client.post(
                    "/api/v1/ocr/jobs",
                    files={"file": (image.name, image.read_bytes())},
                    data={"language": "en", "force": "true"},
                )
                assert answer.status_code == 202, answer.text
                keys.append(answer.json()["id"])
            return keys

    started = time.time()
    with ThreadPoolExecutor(clients) as pool:
        shares = [images[n::clients] for n in range(clients)]
        keys = list(itertools.chain.from_iterable(pool.map(send, shares)))
    jobs = []
    for key in keys:
        job = stack.ended({"id": key}, 600)
        assert job["status"] == "succeeded", job["error"]
        jobs.append(job)
    return max(datetime.fromisoformat(job["finished_at"]).timestamp() for job in jobs) - started


def batch(folder: Path, workers: int) -> float:
    """Seconds that `ocr_batch` says it took."""
    with tempfile.TemporaryDirectory() as data:
        env = {**os.environ, "DATA_DIR": data}
        env.pop("DATABASE_URL", None)
        command = [sys.executable, "manage.py", "ocr_batch", str(folder), "--out", f"{data}/out"]
        command += ["--formats", "txt", "--language", "en", "--workers", str(workers), "--json"]
        done = subprocess.run(
            command, cwd=ROOT, env=env, check=True, capture_output=True, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def copies(images: list[Path], count: int, folder: Path) -> list[Path]:
    """`count` files, each of another content: a trailing byte, which no decoder minds."""
    made = []
    for number, image in zip(range(count), itertools.cycle(images), strict=False):
        path = folder / f"{number:03}{image.suffix}"
        shutil.copyfile(image, path)
        with path.open("ab") as file:
            file.write(number.to_bytes(2, "big"))
        made.append(path)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    images = sorted(p for p in options.data.iterdir() if p.suffix.lower() in IMAGES)
    threads = max(1, len(os.sched_getaffinity(0)) // options.workers)
    engine = {"BACKEND": "ocr.engines.rapidocr.RapidOcrEngine", "OPTIONS": {"threads": threads}}
    calls: list[dict[str, float]] = []
    by_api, by_batch = [], []
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        tempfile.TemporaryDirectory() as folder,
        Stack(
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
            OCR_ENGINES=json.dumps({"rapidocr": engine}),
            JOB_LEASE_SECONDS="30",
            MAINTENANCE_SECONDS="5",
            MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
            MLFLOW_ARTIFACTS=f"{folder}/mlartifacts",
            LOG_LEVEL="WARNING",
        ) as stack,
    ):
        pages = Path(folder) / "pages"
        pages.mkdir()
        files = copies(images, options.uploads, pages)
        stack.web()
        first = stack.worker("worker-0")
        stack.ready()
        latencies(stack, images[0], 3)
        for _ in range(options.rounds):
            calls += latencies(stack, images[0], options.calls)
        others = [stack.worker(f"worker-{n}") for n in range(1, options.workers)]
        uploads(stack, files[: 4 * options.workers], options.clients)
        for _ in range(options.rounds):
            by_api.append(uploads(stack, files, options.clients))
            # Turn about: the workers rest meanwhile, and hold no more than memory.
            by_batch.append(batch(pages, options.workers))
        for process in (first, *others):
            end(process)
    print(f"{len(calls)} calls, one image, one worker; median ms (10 % and 90 %)")
    for name in ("whole", "engine", "overhead", "web", "queue", "worker"):
        values = sorted(call[name] for call in calls)
        low, high = values[len(values) // 10], values[-1 - len(values) // 10]
        print(f"  {name:9} {statistics.median(values):8.1f}   ({low:.1f}, {high:.1f})")
    api, own = statistics.median(by_api), statistics.median(by_batch)
    rounds = f"median of {options.rounds} rounds"
    print(f"{len(files)} uploads by {options.clients} clients, {options.workers} workers, {rounds}")
    print(f"  API        {api:7.1f} s {len(files) / api:7.2f} pages/s")
    print(f"  ocr_batch  {own:7.1f} s {len(files) / own:7.2f} pages/s   ratio {own / api:.2f}")


if __name__ == "__main__":
    main()
