"""Workers and brokers are killed at the worst moment; every job ends, without anyone's help."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from ocr.samples import multi_page_pdf
from ocr.scoring import cer
from tests.services import PostgresServer, RedisServer, wait_for
from tests.stack import Stack, end

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture(scope="module")
def stack(redis: RedisServer) -> Iterator[Stack]:
    with (
        PostgresServer() as postgres,
        Stack(DATABASE_URL=postgres.url, REDIS_URL=redis.url) as stack,
    ):
        stack.web()
        yield stack


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    path = tmp_path_factory.mktemp("pdf") / "twenty.pdf"
    return path, multi_page_pdf(path, 20)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    path = tmp_path_factory.mktemp("pdf") / "short.pdf"
    return path, multi_page_pdf(path, 3)


def assert_whole(stack: Stack, job: dict, truth: tuple[str, ...]) -> None:
    """Every page is there once, in order, with its own text."""
    pages = stack.result(job)["pages"]
    assert [page["page"] for page in pages] == list(range(1, len(truth) + 1))
    for page, text in zip(pages, truth, strict=True):
        assert cer(text, page["text"]) < 0.1, (page["page"], page["text"])


def rows(stack: Stack, query: str, job: dict) -> list[tuple]:
    """What stands in the database and not in the API."""
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        return connection.execute(query, [job["id"]]).fetchall()


def test_worker_killed_in_the_middle(stack: Stack, twenty) -> None:
    path, truth = twenty
    worker = stack.worker("victim")
    job = stack.submit(path)
    seen = stack.until(job, lambda now: now["progress"]["done"] >= 3)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    assert stack.job(job)["status"] == "running" and seen["progress"]["done"] < 20

    second = stack.worker("second")
    done = stack.ended(job)
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    assert_whole(stack, job, truth)
    end(second)


def test_helper_killed_in_the_middle(stack: Stack, twenty) -> None:
    """What a killed helper had claimed is read by the other; nothing is read as another attempt."""
    path, truth = twenty
    workers = {name: stack.worker(name) for name in ("one", "two")}
    assert wait_for(lambda: all("Connected to" in stack.log(name) for name in workers), 30)
    job = stack.submit(path)

    def claimed_by() -> set[int]:
        claims = rows(stack, "SELECT DISTINCT worker FROM ocr_pageclaim WHERE job_id = %s", job)
        return {int(worker.split(":")[1]) for (worker,) in claims}

    assert wait_for(lambda: len(claimed_by()) == 2, 60), stack.logs()
    [(holder,)] = rows(stack, "SELECT worker FROM mlops_job WHERE id = %s", job)
    [helper] = [one for one in workers.values() if one.pid != int(holder.split(":")[1])]
    os.killpg(helper.pid, signal.SIGKILL)
    helper.wait()
    done = stack.ended(job)
    # The holder was not touched: it is the same attempt.
    assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert_whole(stack, job, truth)
    for process in workers.values():
        end(process)


def test_cancel_stops_within_a_page(stack: Stack, twenty) -> None:
    path, _truth = twenty
    worker = stack.worker("cancels")
    job = stack.submit(path)
    stack.until(job, lambda now: now["progress"]["done"] >= 2)
    answer = stack.client.post(f"/api/v1/ocr/jobs/{job['id']}/cancel")
    assert answer.status_code == 202
    at = stack.job(job)["progress"]["done"]
    done = stack.ended(job)
    assert done["status"] == "cancelled"
    assert done["progress"]["done"] <= at + 1
    assert len(stack.result(job)["pages"]) == done["progress"]["done"]
    again = stack.client.post(f"/api/v1/ocr/jobs/{job['id']}/cancel")
    assert again.status_code == 409 and again.json()["error"]["code"] == "conflict"

    # A retry goes on where it was.
    assert stack.client.post(f"/api/v1/ocr/jobs/{job['id']}/retry").status_code == 202
    assert stack.ended(job)["status"] == "succeeded"
    end(worker)


def test_redis_restarted_while_jobs_are_queued(stack: Stack, redis: RedisServer, short) -> None:
    path, truth = short
    jobs = [stack.submit(path) for _ in range(3)]
    redis.restart()
    worker = stack.worker("after-restart")
    for job in jobs:
        assert stack.ended(job)["status"] == "succeeded"
        assert_whole(stack, job, truth)
    end(worker)


def test_redis_wiped_while_jobs_are_queued(stack: Stack, redis: RedisServer, short) -> None:
    path, truth = short
    jobs = [stack.submit(path) for _ in range(3)]
    redis.wipe()
    worker = stack.worker("after-wipe")
    for job in jobs:
        assert stack.ended(job)["status"] == "succeeded"
        assert_whole(stack, job, truth)
    end(worker)


def test_upload_while_redis_is_away(stack: Stack, redis: RedisServer, short) -> None:
    path, truth = short
    redis.stop()
    job = stack.submit(path)
    assert stack.job(job)["status"] == "queued"
    assert stack.client.get("/ready").status_code == 503
    redis.start()
    worker = stack.worker("late")
    assert stack.ended(job)["status"] == "succeeded"
    assert_whole(stack, job, truth)
    end(worker)


@pytest.mark.parametrize("how", ["restart", "kill", "wipe"])
def test_redis_lost_under_a_worker_at_work(
    stack: Stack, redis: RedisServer, twenty, short, how: str
) -> None:
    supervised = stack.supervised_worker()
    jobs = [(stack.submit(path), truth) for path, truth in (twenty, short, short)]
    stack.until(jobs[0][0], lambda now: now["progress"]["done"] >= 3)
    if how == "kill":
        redis.kill()
        redis.start()
    else:
        getattr(redis, how)()
    jobs.append((stack.submit(short[0]), short[1]))
    for job, truth in jobs:
        assert stack.ended(job, 90)["status"] == "succeeded"
        assert_whole(stack, job, truth)
    end(supervised)


def test_worker_does_not_doze_off_after_a_restart(stack: Stack, redis: RedisServer, short) -> None:
    """A free thread takes the next job at once; a loop that nobody wakes takes one in 10 s."""
    supervised = stack.supervised_worker()
    assert stack.ended(stack.submit(short[0]))["status"] == "succeeded"
    redis.restart()
    jobs = [stack.submit(short[0]) for _ in range(6)]
    for job in jobs:
        assert stack.ended(job, 30)["status"] == "succeeded"
    created, finished = (
        [datetime.fromisoformat(stack.job(job)[name]) for job in jobs]
        for name in ("created_at", "finished_at")
    )
    assert max(finished) - min(created) < timedelta(seconds=40)
    end(supervised)


def test_attempts_are_capped(stack: Stack, twenty) -> None:
    """A job that takes its worker down each time ends, with a reason."""
    path, _truth = twenty
    job = stack.submit(path)
    for attempt in (1, 2, 3):
        worker = stack.worker(f"dies-{attempt}")
        stack.until(
            job, lambda now, n=attempt: now["attempts"] == n and now["progress"]["done"] >= n
        )
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    worker = stack.worker("reaps")
    done = stack.ended(job)
    assert done["status"] == "failed" and done["error"]["code"] == "worker_lost"
    assert "3 attempts" in done["error"]["message"]
    end(worker)


def test_database_restarted_under_a_worker(twenty) -> None:
    path, truth = twenty
    with (
        RedisServer() as redis,
        PostgresServer() as postgres,
        Stack(DATABASE_URL=postgres.url, REDIS_URL=redis.url) as stack,
    ):
        stack.web()
        stack.supervised_worker()
        job = stack.submit(path)
        stack.until(job, lambda now: now["progress"]["done"] >= 3)
        postgres.restart()
        assert wait_for(lambda: stack.client.get("/ready").status_code == 200, 30), stack.logs()
        assert stack.ended(job, 90)["status"] == "succeeded"
        assert_whole(stack, job, truth)
