"""This platform by its three ways in: the command, the API with a worker, the model server."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent.parent


def ocr_batch(images: list[Path], out: Path, **settings: str) -> float:
    """`manage.py ocr_batch` with a process a core: models loaded, rows and outputs written."""
    with tempfile.TemporaryDirectory() as data:
        env = {**os.environ, "DATA_DIR": data, "MLFLOW_TRACKING_URI": "none", **settings}
        env.pop("DATABASE_URL", None)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True
        )
        command = [sys.executable, "manage.py", "ocr_batch", *map(str, images), "--out", str(out)]
        command += ["--workers", str(os.cpu_count()), "--json"]
        done = subprocess.run(
            command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True
        )
    return json.loads(done.stdout.splitlines()[-1])["seconds"]


def ocr_batch_f32(images: list[Path], out: Path) -> float:
    """The same without bf16 and 8-bit integers, as a processor that lacks them runs it."""
    engine = {"BACKEND": "ocr.engines.rapidocr.RapidOcrEngine", "OPTIONS": {"precision": "f32"}}
    return ocr_batch(images, out, OCR_ENGINES=json.dumps({"rapidocr": engine}))


def api(images: list[Path], out: Path) -> float:
    """Uploads by 8 clients, and a worker a core; PostgreSQL and Redis."""
    from tests.services import PostgresServer, RedisServer
    from tests.stack import Stack

    cores = os.cpu_count() or 1
    with PostgresServer() as postgres, RedisServer() as redis:
        environment = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}
        with Stack(**environment) as stack:
            stack.web()
            for number in range(cores):
                stack.worker(f"worker{number}")
            stack.ready()
            _send(stack, images[:1])
            started = time.perf_counter()
            jobs = _send(stack, images)
            seconds = time.perf_counter() - started
            for image, job in zip(images, jobs, strict=True):
                answer = stack.client.get(f"/api/v1/ocr/jobs/{job}/result?format=txt")
                (out / f"{image.stem}.txt").write_text(answer.text)
    return seconds


def _send(stack, images: list[Path]) -> list[str]:
    def upload(image: Path) -> str:
        with image.open("rb") as file:
            answer = stack.client.post(
                "/api/v1/ocr/jobs", files={"file": file}, data={"force": "true"}
            )
        answer.raise_for_status()
        return answer.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(upload, images))
    waiting = set(jobs)
    while waiting:
        time.sleep(0.05)
        for job in list(itertools.islice(waiting, 4)):
            status = stack.client.get(f"/api/v1/ocr/jobs/{job}").json()["status"]
            if status not in ("queued", "running"):
                assert status == "succeeded", status
                waiting.discard(job)
    return jobs


def model_server(images: list[Path], out: Path) -> float:
    """`manage.py serve_ocr`, asked by 8 clients at once."""
    from tests.services import free_port, wait_for

    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen(
            [sys.executable, "manage.py", "serve_ocr", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "DATA_DIR": data},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                wait_for(lambda: _healthy(client), seconds=60)

                def predict(image: Path) -> None:
                    with image.open("rb") as file:
                        answer = client.post(
                            "/predict", files={"image": file}, data={"language": "auto"}
                        )
                    answer.raise_for_status()
                    (out / f"{image.stem}.txt").write_text(answer.json()["full_text"])

                predict(images[0])
                started = time.perf_counter()
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(predict, images))
                return time.perf_counter() - started
        finally:
            server.terminate()
            server.wait(30)


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").json().get("model_loaded") is True
    except httpx.TransportError:
        return False
