"""The broker made of files, under real processes that hammer it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection

from mlops import broker
from tests.environment import ROOT
from tests.mlops.broker_peers import QUEUE, celery_app, connect, produce
from tests.services import wait_for


def start(*arguments: object) -> subprocess.Popen[bytes]:
    module = [sys.executable, "-m", "tests.mlops.broker_peers", *map(str, arguments)]
    # Without Django: a worker here is Celery and the broker alone.
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return subprocess.Popen(module, cwd=ROOT, env=environment)


@contextmanager
def celery_worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start("worker", folder)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with connect(str(tmp_path)) as connection:
        yield connection


def waiting(connection: Connection, queue: str) -> int:
    with connection.channel() as channel:
        return channel.queue_declare(queue=queue, passive=True).message_count


def test_hot_producers_and_consumers_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    folder, done = tmp_path / "broker", tmp_path / "done"
    files = [tmp_path / f"taken-{number}" for number in range(3)]
    sent = {f"p{name}-{number}" for name in range(4) for number in range(500)}

    consumers = [start("consume", folder, done, file) for file in files]
    producers = [start("produce", folder, f"p{name}", 500) for name in range(4)]
    assert [process.wait(100) for process in producers] == [0] * 4
    done.touch()
    assert [process.wait(100) for process in consumers] == [0] * 3

    taken = Counter(line for file in files for line in file.read_text().splitlines())
    assert set(taken) == sent
    assert set(taken.values()) == {1}
    with connect(str(folder)) as connection:
        assert waiting(connection, "hot") == 0


def test_a_message_is_invisible_until_it_is_whole(
    tmp_path: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    rename = Path.replace

    def look_then_rename(self: Path, target: Path) -> Path:
        if target.suffix == ".msg":
            seen.append((self.stat().st_size > 60_000, waiting(connection, "hot")))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", look_then_rename)
    produce(str(tmp_path), "p", "1")
    assert seen == [(True, 0)]
    assert waiting(connection, "hot") == 1


def test_a_passive_declare_counts_the_waiting_messages(
    tmp_path: Path, connection: Connection
) -> None:
    assert waiting(connection, "hot") == 0
    produce(str(tmp_path), "p", "7")
    with connection.SimpleQueue("other.hot") as other:
        other.put("not in the queue named hot")
    assert waiting(connection, "hot") == 7
    with connection.SimpleQueue(QUEUE) as queue:
        queue.get(timeout=1)
        assert waiting(connection, "hot") == 6
        assert queue.clear() == 6
    assert waiting(connection, "hot") == 0
    assert waiting(connection, "other.hot") == 1


def test_priority_zero_goes_first_then_the_oldest(connection: Connection) -> None:
    with connection.SimpleQueue("q") as queue:
        for name, priority in [("a", 3), ("b", 0), ("c", 9), ("d", 3), ("e", 0)]:
            queue.put(name, priority=priority)
        assert [queue.get(timeout=1).payload for _ in range(5)] == ["b", "e", "a", "d", "c"]


def test_an_unacknowledged_message_comes_back_when_its_consumer_leaves(
    tmp_path: Path, connection: Connection
) -> None:
    produce(str(tmp_path), "p", "1")
    with connect(str(tmp_path)) as other:
        other.SimpleQueue(QUEUE).get(timeout=1)
        assert waiting(connection, "hot") == 0
    message = connection.SimpleQueue(QUEUE).get(timeout=1)
    assert message.payload["id"] == "p-0"
    assert message.properties["delivery_info"]["routing_key"] == "hot"


def test_two_brokers_in_one_process_stay_apart(tmp_path: Path) -> None:
    for name in ("first", "second"):
        produce(str(tmp_path / name), name, "1")
    for name in ("first", "second"):
        with connect(str(tmp_path / name)) as connection:
            queue = connection.SimpleQueue(QUEUE)
            assert queue.get(timeout=1).payload["id"] == f"{name}-0"


def test_the_sweep_removes_what_nobody_will_read(
    tmp_path: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "SWEEP_EVERY_SECONDS", 0)
    produce(str(tmp_path), "p", "3")
    with connection.Producer() as producer:
        producer.publish("to a worker that is gone", routing_key="dead@host.celery.pidbox")
    connection.SimpleQueue(QUEUE).get(timeout=1).ack()
    messages, taken = tmp_path / "messages", tmp_path / "processed"
    (messages / ".half.tmp").write_text("{")
    assert (len(list(messages.iterdir())), len(list(taken.iterdir()))) == (4, 1)

    long_ago = time.time() - broker.KEEP_SECONDS - 1
    for path in [*messages.iterdir(), *taken.iterdir()]:
        os.utime(path, (long_ago, long_ago))
    connection.SimpleQueue(QUEUE).get(timeout=1).ack()

    # The message to a queue that work goes through stays, however old.
    assert [path.name.partition(".")[2] for path in messages.iterdir()] == ["hot.msg"]
    assert len(list(taken.iterdir())) == 1


@pytest.mark.e2e
def test_celery_does_work_and_answers_inspect_over_it(tmp_path: Path) -> None:
    app = celery_app(str(tmp_path))
    with celery_worker(tmp_path):
        assert wait_for(app.control.inspect(timeout=0.5).ping)
        results = [app.tasks["double"].delay(number) for number in range(20)]
        assert [result.get(timeout=30) for result in results] == [2 * n for n in range(20)]
        assert app.control.inspect(timeout=1).ping() == {"peer@here": {"ok": "pong"}}


@pytest.mark.e2e
def test_a_revoked_message_is_not_worked_on(tmp_path: Path) -> None:
    app = celery_app(str(tmp_path))
    with celery_worker(tmp_path):
        assert wait_for(app.control.inspect(timeout=0.5).ping)
        busy = [app.tasks["sleep"].delay(3) for _ in range(2)]
        late = app.tasks["double"].delay(1)
        assert app.control.revoke(late.id, reply=True, timeout=1)
        for result in busy:
            result.get(timeout=30)
        assert wait_for(lambda: late.state == "REVOKED")


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("redis://localhost:6379/0", {"visibility_timeout", "priority_steps", "sep"}),
        ("filesystem://", {"data_folder_in", "control_folder", "polling_interval"}),
        ("memory://", set()),
    ],
)
def test_each_kind_of_broker_gets_its_options(url: str, names: set[str], tmp_path: Path) -> None:
    options = broker.transport_options(url, folder=tmp_path, visibility_timeout=60)
    assert names <= options.keys()
    assert bool(options) == bool(names)
