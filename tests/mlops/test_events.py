"""`GET …/events` and what stands behind it: rows watched once for all who wait."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.http.response import HttpResponseBase
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from mlops import bell
from mlops import watch as watching
from mlops.models import ApiKey, Job, User
from mlops.watch import JobWatch
from tests.services import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)


def make(**fields: object) -> Job:
    return Job.objects.create(kind="test.job", queue="default", progress_total=3, **fields)


def change(job: Job, **fields: object) -> None:
    Job.objects.filter(pk=job.pk).update(**fields)
    connection.close()


@pytest.fixture
def user() -> User:
    return User.objects.create_user("kim", password="a-long-password")


class Client:
    """With a key in each request: AsyncClient forgets headers that it is made with."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    async def get(self, url: str, **headers: str) -> HttpResponseBase:
        return await AsyncClient().get(url, headers={**self._headers, **headers})


@pytest.fixture
def client(user: User) -> Client:
    return Client(ApiKey.objects.create(user=user)[1])


async def events(stream: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """The events of a stream, parsed as the HTML standard says; comments left out."""
    buffer = ""
    async for chunk in stream:
        buffer += chunk.decode()
        while "\n\n" in buffer:
            block, buffer = buffer.split("\n\n", 1)
            fields = [line.partition(": ") for line in block.splitlines() if line[0] != ":"]
            event = {name: value for name, _colon, value in fields}
            if "data" in event:
                yield event


def test_progress_then_the_end(client: Client, user: User) -> None:
    job = make(owner=user)

    async def follow() -> list[dict[str, str]]:
        answer = await client.get(f"/api/v1/ocr/jobs/{job.pk}/events")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-cache"
        found = []
        async for event in events(aiter(answer)):
            found.append(event)
            if len(found) == 1:
                await sync_to_async(change)(job, status="running", progress_done=1)
            elif len(found) == 2:
                await sync_to_async(change)(
                    job, status="failed", error_code="e", error="A reason.", progress_done=2
                )
        return found

    found = asyncio.run(asyncio.wait_for(follow(), 30))
    assert [event["event"] for event in found] == ["progress", "progress", "ended"]
    bodies = [json.loads(event["data"]) for event in found]
    assert [body["progress"]["done"] for body in bodies] == [0, 1, 2]
    assert bodies[2]["status"] == "failed"
    assert bodies[2]["error"] == {"code": "e", "message": "A reason."}
    assert len({event["id"] for event in found}) == 3


def test_who_comes_back_is_told_only_what_is_new(client: Client, user: User) -> None:
    job = make(owner=user)

    async def again(known: str) -> tuple[int, list[dict[str, str]]]:
        url = f"/api/v1/ocr/batches/{job.pk}/events"
        answer = await client.get(url, **{"Last-Event-ID": known})
        if answer.status_code != 200:
            return answer.status_code, []
        found = []
        await sync_to_async(change)(job, status="succeeded", progress_done=3)
        async for event in events(aiter(answer)):
            found.append(event)
        return answer.status_code, found

    _status, found = asyncio.run(asyncio.wait_for(again("progress:queued:0:3"), 30))
    assert [event["event"] for event in found] == ["ended"]
    # It knows the end: a browser that gets 204 does not come back.
    assert asyncio.run(again(found[0]["id"])) == (204, [])


def test_heartbeat_while_nothing_happens(client: Client, user: User, monkeypatch) -> None:
    monkeypatch.setattr("mlops.api.events.HEARTBEAT_SECONDS", 0.05)
    job = make(owner=user)

    async def follow() -> bytes:
        answer = await client.get(f"/api/v1/jobs/{job.pk}/events")
        got = b""
        async for chunk in aiter(answer):
            got += chunk
            if got.count(b"\n: ") + got.startswith(b":") >= 2:
                await sync_to_async(change)(job, status="succeeded")
        return got

    assert b": still here\n\n" in asyncio.run(asyncio.wait_for(follow(), 30))


def test_others_and_nobody_follow_nothing(client: Client) -> None:
    stranger = User.objects.create_user("lee", password="a-long-password")
    job = make(owner=stranger)

    async def status(who: Client, pk: object) -> int:
        return (await who.get(f"/api/v1/ocr/jobs/{pk}/events")).status_code

    assert asyncio.run(status(client, job.pk)) == 404
    assert asyncio.run(status(client, uuid.uuid4())) == 404
    assert asyncio.run(status(Client("mk-wrong"), job.pk)) == 401


def test_deleted_meanwhile_ends_the_stream(client: Client, user: User) -> None:
    job = make(owner=user)

    async def follow() -> list[dict[str, str]]:
        answer = await client.get(f"/api/v1/ocr/jobs/{job.pk}/events")
        found = []
        async for event in events(aiter(answer)):
            found.append(event)
            await sync_to_async(Job.objects.filter(pk=job.pk).delete)()
        return found

    found = asyncio.run(asyncio.wait_for(follow(), 30))
    assert json.loads(found[-1]["data"]) == {"status": "deleted"}


def test_many_who_wait_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [make() for _ in range(20)]
    looks: list[int] = []
    original = watching.job_states

    def counted(pks):
        looks.append(len(pks))
        return original(pks)

    monkeypatch.setattr(watching, "job_states", counted)

    async def wait(watch: JobWatch, job: Job) -> str:
        async for state in watch.states(job.pk):
            last = state
        return last.status

    async def all_of_them() -> list[str]:
        watch = JobWatch()
        waiting = [asyncio.create_task(wait(watch, job)) for job in jobs for _ in range(3)]
        await asyncio.sleep(0.2)
        looks.clear()
        await asyncio.sleep(0.3)
        rounds = len(looks)
        assert rounds <= 20 and set(looks) <= {20}
        await sync_to_async(Job.objects.update)(status="succeeded")
        return await asyncio.gather(*waiting)

    assert set(asyncio.run(asyncio.wait_for(all_of_them(), 30))) == {"succeeded"}
    assert len(jobs) == 20


def test_bell_wakes_who_waits(redis_server: RedisServer, settings, monkeypatch) -> None:
    """With the looks so far apart that only the ring can have been in time."""
    settings.CELERY_BROKER_URL = redis_server.url
    monkeypatch.setattr(watching, "HEARD_SECONDS", 20.0)
    job = make()

    async def wait() -> float:
        watch = JobWatch()
        states = watch.states(job.pk)
        assert (await anext(states)).status == "queued"
        while not watch._heard:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await sync_to_async(change)(job, status="succeeded")
        started = time.monotonic()
        await sync_to_async(bell.ring)(job.pk)
        assert (await anext(states)).status == "succeeded"
        return time.monotonic() - started

    assert asyncio.run(asyncio.wait_for(wait(), 30)) < 5


def test_bell_that_is_broken_stops_no_job(settings) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    started = time.monotonic()
    for _ in range(100):
        bell.ring(uuid.uuid4())
    assert time.monotonic() - started < 5


def test_a_look_takes_one_query() -> None:
    jobs = [make() for _ in range(5)]
    with CaptureQueriesContext(connection) as queries:
        assert len(watching.job_states([job.pk for job in jobs])) == 5
    assert len(queries) == 1
