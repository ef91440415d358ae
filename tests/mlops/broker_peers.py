"""Processes for test_broker.py, each at one broker: `python -m tests.mlops.broker_peers ...`.

produce FOLDER NAME COUNT     sends NAME-0 ... as fast as it can
consume FOLDER DONE FILE      writes to FILE what it takes, until DONE exists and nothing waits
worker FOLDER                 a Celery worker
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.simple import SimpleQueue

from mlops.broker import filesystem_options, register_transport

register_transport()
QUEUE = Queue("hot", Exchange("hot", type="direct"), routing_key="hot")


def connect(folder: str) -> Connection:
    return Connection("filesystem://", transport_options=filesystem_options(Path(folder)))


def celery_app(folder: str) -> Celery:
    results = Path(folder) / "results"
    results.mkdir(parents=True, exist_ok=True)
    app = Celery("peers", broker="filesystem://", set_as_current=False)
    app.conf.broker_transport_options = filesystem_options(Path(folder))
    app.conf.result_backend = f"file://{results}"
    app.conf.worker_hijack_root_logger = False

    @app.task(name="double", shared=False)
    def double(number: int) -> int:
        return 2 * number

    @app.task(name="sleep", shared=False)
    def sleep(seconds: float) -> None:
        time.sleep(seconds)

    return app


def produce(folder: str, name: str, count: str) -> None:
    with connect(folder) as connection, connection.Producer() as producer:
        for number in range(int(count)):
            producer.publish(
                # Long enough that writing it takes a while.
                {"id": f"{name}-{number}", "padding": "x" * 60_000},
                exchange=QUEUE.exchange,
                routing_key="hot",
                declare=[QUEUE],
            )


def consume(folder: str, done: str, file: str) -> None:
    with connect(folder) as connection, Path(file).open("w") as seen:
        queue = SimpleQueue(connection.channel(), QUEUE)
        while True:
            last_look = Path(done).exists()
            try:
                message = queue.get_nowait()
            except queue.Empty:
                if last_look:
                    return
                continue  # no pause: polling is to be as hot as can be
            seen.write(f"{message.payload['id']}\n")
            message.ack()


def worker(folder: str) -> None:
    celery_app(folder).worker_main(
        ["worker", "--pool=threads", "--concurrency=2", "--loglevel=warning", "-n", "peer@here"]
    )


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "worker": worker}[sys.argv[1]](*sys.argv[2:])
