"""What a worker makes of requests and of models, without the web in front of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from llm import held, runner, upkeep
from llm.ask import adapter_of, ask
from llm.engines.base import Delta, GenerationRequest, Sampling
from llm.held import Holder
from llm.models import GenerationJob, LanguageModel, ModelInstance, RelayEntry
from llm.relay.wire import unpack
from llm.services.models import model_save, model_unload, model_warm
from mlops import engines, jobs, reconcile
from mlops.exceptions import ApplicationError, EngineUnavailable, JobCancelled
from mlops.models import Job, User, Webhook, WebhookDelivery
from tests.llm.service import FAKE
from tests.services import wait_for

pytestmark = pytest.mark.django_db
# Where other threads must see the rows.
in_threads = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fake(settings, request: pytest.FixtureRequest) -> Iterator[None]:
    [*marks] = request.node.iter_markers("django_db")
    threads = any(mark.kwargs.get("transaction") for mark in marks)
    request.getfixturevalue("transactional_db" if threads else "db")
    settings.ENGINES = {"llm": {"fake": {"BACKEND": FAKE}}}
    engines._caches.clear()
    yield
    held.holder.close()
    engines._caches.clear()


def model(name: str = "echo", **fields: Any) -> LanguageModel:
    return model_save(model=LanguageModel(name=name, engine="fake", source=name), **fields)


def request(text: str, **sampling: Any) -> GenerationRequest:
    messages = [{"role": "user", "content": text}]
    return GenerationRequest(id="r", messages=messages, sampling=Sampling(**sampling))


def submitted(of: LanguageModel, text: str = "one two", **fields: Any) -> GenerationJob:
    body = {"model": of.name, "messages": [{"role": "user", "content": text}]}
    return GenerationJob.objects.create(
        **{
            "kind": GenerationJob.KIND,
            "queue": "llm",
            "endpoint": "chat",
            "asked_model": of.name,
            "model": of,
            "body": body,
            **fields,
        }
    )


def execute(job: GenerationJob) -> GenerationJob:
    jobs.execute(GenerationJob, job.pk, runner.run, related=["model__base"])
    return GenerationJob.objects.get(pk=job.pk)


class TestRun:
    def test_queries_are_few(self) -> None:
        """Each costs every request its time; the model and its reply stream are there already."""
        job = submitted(model())
        execute(submitted(LanguageModel.objects.get()))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            execute(job)
        texts = [query["sql"][:60] for query in queries if "PRAGMA" not in query["sql"]]
        assert len(texts) <= 7, texts

    def test_deleted_model(self) -> None:
        job = submitted(model())
        LanguageModel.objects.all().delete()
        ended = execute(job)
        assert (ended.status, ended.error_code) == ("failed", "model_not_found")
        assert ended.body is None

    def test_cancelled_before_it_began(self) -> None:
        job = submitted(model(), cancel_requested=True)
        assert execute(job).status == "cancelled"

    @in_threads
    def test_what_is_not_streamed_is_sent_once_it_is_whole(self) -> None:
        job = submitted(model(), reply_to="s", max_attempts=3)
        execute(job)
        assert wait_for(lambda: self.kinds() and self.kinds()[-1] == "Ended")
        assert self.kinds() == ["Begun", "Delta", "Finished", "Ended"]

    @in_threads
    def test_a_crash_is_told_to_who_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault of ours must not leave its reader in silence either."""
        monkeypatch.setattr(runner, "chat_generation", lambda *_, **__: 1 / 0)
        job = submitted(model(), reply_to="s", streamed=True, max_attempts=1)
        ended = execute(job)
        assert (ended.status, ended.error_code) == ("failed", "internal_error")
        assert wait_for(lambda: self.kinds()[-1:] == ["Failed"])

    def test_traced_models_log_a_run(self, settings) -> None:
        execute(submitted(model()))
        assert Job.objects.get().tracking == Job.Tracking.NONE
        Job.objects.all().delete()
        execute(submitted(model("traced", trace=True)))
        job = Job.objects.get()
        assert job.tracking == Job.Tracking.PENDING
        record = job.specific().run_record()
        assert record.experiment == "llm" and record.params["model"] == "traced"
        assert record.metrics["completion_tokens"] == 2 and not record.artifacts

    def kinds(self) -> list[str]:
        rows = RelayEntry.objects.order_by("id").values_list("events", flat=True)
        items = [item for events in rows for item in unpack(events)]
        return [type(message).__name__ for item in items for message in item.messages]


class TestAsk:
    def test_whole_and_as_it_comes(self) -> None:
        told: list[tuple[int, str]] = []
        loaded = held.get(model())
        answer = ask(
            loaded, request("one two", logprobs=0), on_text=lambda *piece: told.append(piece)
        )
        assert (answer.text, answer.finish_reasons) == ("one two", ("stop",))
        assert told == [(0, "one "), (0, "two")]
        assert (answer.usage.prompt, answer.usage.completion) == (2, 2)
        assert [one.token for one in answer.logprobs[0]] == ["one ", "two"]

    @pytest.mark.parametrize(
        ("text", "code"), [("word " * 1001, "context_length_exceeded"), ("fail 2", "engine_failed")]
    )
    def test_what_the_engine_says_against_it(self, text: str, code: str) -> None:
        with pytest.raises(ApplicationError) as caught:
            ask(held.get(model()), request(text))
        assert caught.value.code == code

    def test_ends_with_its_job(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llm.ask.CHECK_SECONDS", 0.01)

        class Cancelled:
            def check(self) -> None:
                raise JobCancelled

        loaded = held.get(model(options={"gate": "/nowhere/gate"}))
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask, loaded, request("one"), context=Cancelled())
            assert wait_for(lambda: loaded.loaded()._open and loaded.loaded()._open["r"].cancelled)
            loaded.loaded().gate = ""
            with pytest.raises(JobCancelled):
                asking.result()
        assert wait_for(lambda: loaded.active == 0)

    def test_adapter_is_named_to_the_engine(self) -> None:
        base = model()
        adapter = model("tuned", base=base)
        assert adapter_of(base) is None
        named = adapter_of(adapter)
        assert (named.name, named.path) == ("tuned", "tuned")
        assert held.get(adapter) is held.get(base)


class TestHeld:
    @in_threads
    def test_loaded_once_for_many_threads(self, tmp_path) -> None:
        gate = tmp_path / "gate"
        row = model()
        specs = {"fake": {"BACKEND": FAKE, "OPTIONS": {"load_gate": str(gate)}}}
        engines._caches["llm"] = engines.EngineCache(
            {"fake": engines.EngineSpec("fake", FAKE, specs["fake"]["OPTIONS"])}
        )

        def get() -> Any:
            try:
                return held.get(row)
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(get) for _ in range(4)]
            loading = ModelInstance.objects.filter(state="loading")
            assert wait_for(loading.exists)
            gate.touch()
            assert len({id(one.result()) for one in waiting}) == 1
        assert engines.cache("llm").get("fake").loads == 1
        instance = ModelInstance.objects.get()
        assert (instance.state, instance.device, instance.memory_bytes) == (
            "ready",
            "cpu fake",
            1000,
        )

    def test_failure_is_kept_for_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        row = model("damaged")
        for _again in range(2):
            with pytest.raises(EngineUnavailable, match="no readable weights"):
                held.get(row)
        instance = ModelInstance.objects.get()
        assert instance.state == "failed" and "no readable weights" in instance.error
        # The file is mended: the next try after the pause finds it so.
        row.source = "mended"
        held.get(row)

    def test_changed_row_is_loaded_anew(self) -> None:
        row = model()
        before = held.get(row)
        assert held.get(LanguageModel.objects.get()) is before
        model_save(model=row, context_length=50)
        after = held.get(LanguageModel.objects.get())
        assert after is not before and after.context_length == 50
        assert before._loaded is None

    def test_idle_models_go_when_memory_is_short(self, settings) -> None:
        settings.LLM_MEMORY_BYTES = 2500
        one, two, three = (held.get(model(name)) for name in ("one", "two", "three"))
        # The first was used longest ago.
        assert [each.held_bytes for each in (one, two, three)] == [0, 1000, 1000]
        assert set(ModelInstance.objects.values_list("model__name", flat=True)) == {"two", "three"}
        # Who kept it loads it again, without asking for it anew.
        assert ask(one, request("still here")).text == "still here"
        assert (two.held_bytes, one.held_bytes) == (0, 1000)

    def test_neither_busy_nor_warm_ones_go(self, settings, tmp_path) -> None:
        settings.LLM_MEMORY_BYTES = 1000
        gate = tmp_path / "gate"
        busy = held.get(model("busy", options={"gate": str(gate)}))
        ended = threading.Event()
        busy.submit(request("one"), lambda event: isinstance(event, Delta) or ended.set())
        warm = held.get(model("warm", warm=True))
        other = held.get(model("other"))
        assert all(each.held_bytes for each in (busy, warm, other))
        gate.touch()
        assert ended.wait(20)

    def test_another_holder_knows_nothing_of_it(self) -> None:
        row = model()
        other = Holder()
        assert not other.holds(row)
        held.get(row)
        assert held.holder.holds(row) and not other.holds(row)


class TestUpkeep:
    @in_threads
    def test_warm_models_are_loaded_and_unloaded(self) -> None:
        row = model()
        upkeep.models_keep(["llm"])
        assert not held.holder.holds(row)
        model_warm(model=row)
        upkeep.models_keep(["ocr"])
        upkeep.models_keep(["llm"])
        assert wait_for(lambda: held.holder.holds(row))
        assert wait_for(lambda: not upkeep._warming.locked())
        model_unload(model=row)
        upkeep.models_keep(["llm"])
        assert not held.holder.holds(row) and not ModelInstance.objects.exists()
        # The next request loads it again, and the same wish does not unload it twice.
        held.get(LanguageModel.objects.get())
        upkeep.models_keep(["llm"])
        assert held.holder.holds(row)

    @pytest.mark.parametrize("change", ["disabled", "deleted", "changed"])
    def test_what_is_wanted_no_more_goes(self, change: str) -> None:
        row = model()
        loaded = held.get(row)
        if change == "deleted":
            row.delete()
        else:
            LanguageModel.objects.update(
                **({"enabled": False} if change == "disabled" else {"dtype": "float32"})
            )
        upkeep.models_keep(["llm"])
        assert loaded._loaded is None

    @in_threads
    def test_damaged_model_that_is_to_be_warm(self) -> None:
        row = model("damaged", warm=True)
        upkeep.models_keep(["llm"])
        assert wait_for(lambda: ModelInstance.objects.filter(state="failed").exists())
        assert wait_for(lambda: not upkeep._warming.locked())
        # Not at each round: its failure is kept for a while.
        assert held.holder.holds(row)

    def test_old_requests_and_forgotten_entries_go(
        self, settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep, "_expired_at", -1000.0)
        monkeypatch.setattr("time.monotonic", lambda: 1000.0)
        row = model()
        old, running = submitted(row, status="succeeded"), submitted(row, status="running")
        fresh = submitted(row, status="failed")
        long_ago = timezone.now() - settings.LLM_KEEP * 2
        Job.objects.filter(pk__in=[old.pk, running.pk]).update(created_at=long_ago)
        RelayEntry.objects.create(stream="s", events="[]")
        RelayEntry.objects.update(created_at=long_ago)
        RelayEntry.objects.create(stream="s", events="[]")
        assert upkeep.requests_expire() == 1
        assert set(GenerationJob.objects.values_list("pk", flat=True)) == {running.pk, fresh.pk}
        assert set(Job.objects.values_list("pk", flat=True)) == {running.pk, fresh.pk}
        assert RelayEntry.objects.count() == 1
        # A request whose worker is gone leaves its text behind; one that runs needs it.
        fresh.refresh_from_db()
        running.refresh_from_db()
        assert fresh.body is None and running.body is not None

    def test_silent_workers_hold_nothing(self) -> None:
        row = model()
        held.get(row)
        gone = ModelInstance.objects.create(
            model=row,
            worker="elsewhere:1",
            state="ready",
            seen_at=timezone.now() - timedelta(hours=1),
        )
        upkeep.requests_expire()
        assert not ModelInstance.objects.filter(pk=gone.pk).exists()
        assert ModelInstance.objects.count() == 1


def test_webhooks_hear_of_requests_only_if_they_ask_for_them() -> None:
    """There are thousands an hour, each with somebody who waits for its answer anyway."""
    user = User.objects.create_user("kim", password="a-long-password")
    every = Webhook.objects.create(owner=user, url="https://example.org/all")
    named = Webhook.objects.create(
        owner=user, url="https://example.org/llm", kinds=[GenerationJob.KIND]
    )
    execute(submitted(model(), owner=user))
    [delivery] = WebhookDelivery.objects.all()
    assert delivery.webhook == named != every


def test_lost_requests_are_no_runs() -> None:
    job = submitted(model(), status="running", attempts=1, max_attempts=1)
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(minutes=1))
    assert reconcile.jobs_reap() == 1
    job.refresh_from_db()
    assert (job.error_code, job.tracking) == ("worker_lost", Job.Tracking.NONE)


def test_user_goes_with_what_was_asked() -> None:
    user = User.objects.create_user("kim", password="a-long-password")
    execute(submitted(model(), owner=user))
    user.delete()
    assert not GenerationJob.objects.exists()
