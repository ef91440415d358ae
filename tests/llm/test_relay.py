"""Reply streams: what a worker sends arrives in order, once, or its loss is noticed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from llm.engines.base import Delta, Ended, Failed, Finished, TokenLogprob, Usage
from llm.models import GenerationJob, RelayEntry
from llm.relay import database, redis
from llm.relay.inbox import Inbox, Mailbox
from llm.relay.outbox import Outbox
from llm.relay.wire import Begun, Item, Message, Vectors, merged, pack, unpack
from mlops.models import Job
from mlops.watch import JobState
from tests.services import RedisServer, wait_for

LOGPROB = TokenLogprob("안", "안".encode(), -0.25, (("a", b"\xff", -1.5),))
MESSAGES: list[Message] = [
    Begun("hermes"),
    Delta(0, "안녕 \U0001f642", (LOGPROB,)),
    Delta(1, "b"),
    Finished(0, "stop", "\n\n"),
    Finished(1, "length"),
    Ended(Usage(3, 2, 1)),
    Failed("It broke.", "engine_failed", "messages", 500),
    Vectors(("AAAA", "BBBB"), 9),
]


class TestWire:
    def test_there_and_back(self) -> None:
        items = [Item("a", 1, 0, MESSAGES), Item("b", 2, 7, [])]
        assert unpack(pack(items)) == items

    def test_neighbouring_texts_are_joined(self) -> None:
        given = [Delta(0, "a"), Delta(0, "b", (LOGPROB,)), Delta(1, "c"), Delta(0, "d")]
        assert merged(given) == [Delta(0, "ab", (LOGPROB,)), Delta(1, "c"), Delta(0, "d")]

    def test_what_is_unknown_is_said(self) -> None:
        with pytest.raises(ValueError, match="doesn't know"):
            unpack('[["a", 1, 0, [["z"]]]]')


class TestMailbox:
    @pytest.fixture
    def box(self) -> Mailbox:
        box = Mailbox("r", now=100.0)
        box.streamed = True
        return box

    def taken(self, box: Mailbox) -> list[Message]:
        async def take() -> list[Message]:
            return await asyncio.wait_for(box.take(), 5)

        return asyncio.run(take())

    def put(self, box: Mailbox, number: int, *messages: Message, attempt: int = 1) -> None:
        box.put(Item("r", attempt, number, messages), now=101.0)

    def test_what_comes_twice_is_read_once(self, box: Mailbox) -> None:
        self.put(box, 0, Delta(0, "a"), Delta(0, "b"))
        self.put(box, 0, Delta(0, "a"), Delta(0, "b"))
        self.put(box, 1, Delta(0, "b"), Delta(0, "c"))
        assert self.taken(box) == [Delta(0, "a"), Delta(0, "b"), Delta(0, "c")]

    @pytest.mark.parametrize("later", [(Delta(0, "c"),), ()])
    def test_a_gap_is_an_error(self, box: Mailbox, later: tuple[Message, ...]) -> None:
        """Seen by what comes after it: more text, or a sign of life alone."""
        self.put(box, 0, Delta(0, "a"))
        self.put(box, 2, *later)
        first, fault = self.taken(box)
        assert first == Delta(0, "a")
        assert isinstance(fault, Failed) and fault.code == "worker_lost"

    def test_another_attempt_begins_anew(self, box: Mailbox) -> None:
        self.put(box, 0, Begun(""))
        self.put(box, 0, Begun(""), Delta(0, "a"), attempt=2)
        self.put(box, 1, Delta(0, "late"), attempt=1)
        assert self.taken(box) == [Begun(""), Begun(""), Delta(0, "a")]

    def test_nothing_comes_after_the_end(self, box: Mailbox) -> None:
        self.put(box, 0, Ended(Usage()))
        box.fail("Too late.", code="x", status=500)
        assert self.taken(box) == [Ended(Usage())]


@pytest.fixture(params=["database", "redis"])
def store(request: pytest.FixtureRequest, settings, transactional_db) -> Iterator[str]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.wipe()
        settings.CELERY_BROKER_URL = server.url
    yield request.param
    connection.close()


def writer(store: str) -> object:
    return redis.RedisWriter() if store == "redis" else database.DatabaseWriter()


def job(**fields: object) -> GenerationJob:
    return GenerationJob.objects.create(
        kind=GenerationJob.KIND, queue="llm", endpoint="chat", asked_model="m", **fields
    )


async def drained(box: Mailbox) -> list[Message]:
    found: list[Message] = []
    while not found or not isinstance(found[-1], Ended | Failed):
        found += await asyncio.wait_for(box.take(), 20)
    return found


def test_from_worker_to_web(store: str) -> None:
    """Events of many requests, sent from threads, arrive in order, each at its own request."""
    outbox = Outbox(writer(store))

    async def follow() -> list[list[Message]]:
        inbox = Inbox()
        keys = [str(uuid.uuid4()) for _ in range(5)]
        boxes = [inbox.open(key) for key in keys]

        def work() -> None:
            replies = []
            for number, key in enumerate(keys):
                with outbox.reply(request=key, attempt=1, stream=inbox.stream) as reply:
                    replies.append(reply)
                    for step in range(40):
                        reply.send(Delta(0, f"{number}:{step} "))
                    reply.send(Ended(Usage(1, 40)))
                    reply.send(Failed("after the end"))

        await sync_to_async(work)()
        return [await drained(box) for box in boxes]

    for number, found in enumerate(asyncio.run(follow())):
        assert found[-1] == Ended(Usage(1, 40))
        text = "".join(one.text for one in found[:-1] if isinstance(one, Delta))
        assert text.split() == [f"{number}:{step}" for step in range(40)]
    if store == "database":
        assert wait_for(lambda: not RelayEntry.objects.exists())


class TestSilence:
    """Rows tell what a stream does not; the clock is moved by the settings."""

    @pytest.fixture(autouse=True)
    def at_once(self, settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.LLM_SILENT_SECONDS = 0
        monkeypatch.setattr("llm.relay.inbox.DOUBTFUL_SECONDS", 0)
        monkeypatch.setattr("llm.relay.inbox.LOOK_SECONDS", 0.02)

    def fault(self, row: GenerationJob | None, *, streamed: bool = True) -> Failed:
        key = str(row.pk if row is not None else uuid.uuid4())

        async def follow() -> list[Message]:
            box = Inbox().open(key)
            box.watch(streamed=streamed)
            return await drained(box)

        [found] = asyncio.run(follow())
        assert isinstance(found, Failed)
        return found

    def test_worker_is_silent(self, transactional_db) -> None:
        found = self.fault(job(status=Job.Status.RUNNING))
        assert (found.code, found.status) == ("worker_lost", 502)

    def test_before_it_has_a_row_nothing_is_missed(self, transactional_db) -> None:
        """A burst of requests may take seconds to be accepted."""

        async def follow() -> bool:
            box = Inbox().open(str(uuid.uuid4()))
            await asyncio.sleep(0.3)
            return box.ended

        assert not asyncio.run(follow())

    def test_last_events_may_be_late(self, settings) -> None:
        settings.LLM_SILENT_SECONDS = 10
        box = Mailbox("r", now=0.0)
        ended = JobState("succeeded", 0, 0, False, "", "")
        for now in (3.0, 4.0, 12.0):
            box.look(ended, now)
            assert not box.ended
        box.look(ended, 13.5)
        assert box.ended

    def test_time_in_the_queue_is_no_silence(self, settings) -> None:
        settings.LLM_SILENT_SECONDS = 10
        box = Mailbox("r", now=0.0)
        box.streamed = True
        queued, running = (
            JobState(status, 0, 0, False, "", "") for status in ("queued", "running")
        )
        box.look(queued, 50.0)
        box.look(running, 60.0)
        assert not box.ended
        box.look(running, 69.0)
        assert not box.ended
        box.look(running, 71.0)
        assert box.ended

    def test_row_says_why_it_failed(self, transactional_db) -> None:
        ended = job(status=Job.Status.FAILED, error_code="out_of_memory", error="Too large.")
        found = self.fault(ended)
        assert (found.code, found.message) == ("out_of_memory", "Too large.")

    def test_row_was_cancelled(self, transactional_db) -> None:
        assert self.fault(job(status=Job.Status.CANCELLED)).code == "cancelled"

    def test_row_was_deleted(self, transactional_db) -> None:
        assert self.fault(None).code == "deleted"

    def test_answer_never_arrived(self, transactional_db) -> None:
        assert self.fault(job(status=Job.Status.SUCCEEDED)).code == "worker_lost"

    def test_what_is_not_streamed_waits_for_another_worker(
        self, transactional_db, settings
    ) -> None:
        """Its worker may be lost and the row leased again, while the client still waits."""
        settings.LLM_QUEUE_SECONDS = 1000
        row = job(status=Job.Status.RUNNING)

        def ends() -> None:
            Job.objects.filter(pk=row.pk).update(
                status=Job.Status.FAILED, error_code="worker_lost", error="Three times."
            )
            connection.close()

        async def follow() -> list[Message]:
            box = Inbox().open(str(row.pk))
            box.watch(streamed=False)
            for _look in range(5):
                await asyncio.sleep(0.05)
                assert not box.ended
            await sync_to_async(ends)()
            return await drained(box)

        [found] = asyncio.run(follow())
        assert isinstance(found, Failed) and found.message == "Three times."


def test_redis_that_comes_back_has_lost_nothing(settings, transactional_db) -> None:
    """What can't be written is kept, and what was read is not read again."""
    with RedisServer(persistent=True) as server:
        settings.CELERY_BROKER_URL = server.url
        outbox = Outbox(redis.RedisWriter())

        async def follow() -> list[Message]:
            inbox = Inbox()
            box = inbox.open("r")
            with outbox.reply(request="r", attempt=1, stream=inbox.stream) as reply:
                reply.send(Delta(0, "before "))
                found = await asyncio.wait_for(box.take(), 20)
                await sync_to_async(server.stop)()
                reply.send(Delta(0, "while "))
                await sync_to_async(server.start)()
                reply.send(Delta(0, "after"))
                reply.send(Ended(Usage()))
                return found + await drained(box)

        found = asyncio.run(follow())
    assert "".join(one.text for one in found if isinstance(one, Delta)) == "before while after"
    assert isinstance(found[-1], Ended)


def test_redis_that_was_wiped_is_noticed(settings, transactional_db) -> None:
    with RedisServer() as server:
        settings.CELERY_BROKER_URL = server.url
        outbox = Outbox(redis.RedisWriter())

        async def follow() -> list[Message]:
            inbox = Inbox()
            with outbox.reply(request="r", attempt=1, stream=inbox.stream) as reply:
                reply.send(Delta(0, "unread"))
                written = redis.client()
                assert await sync_to_async(wait_for)(lambda: written.exists(inbox.stream))
                await sync_to_async(server.wipe)()
                box = inbox.open("r")
                reply.send(Delta(0, "read"))
                return await drained(box)

        [found] = asyncio.run(follow())
    assert isinstance(found, Failed) and found.code == "worker_lost"
