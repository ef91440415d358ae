"""/metrics: who may look, and that what it says is so, whichever process has counted it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings as live_settings
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.utils import timezone
from django.utils.module_loading import import_string
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from finetune.models import TrainingJob
from llm.models import LanguageModel, ModelInstance, Usage
from mlops import jobs, reconcile
from mlops.exceptions import JobFailed
from mlops.metrics import counting, machine, store, workers
from mlops.metrics.counting import Counter, Histogram
from mlops.metrics.ends import JOBS_ENDED
from mlops.metrics.http import count_requests
from mlops.metrics.machine import Gpu, Room
from mlops.models import ApiKey, Job, QueuePulse
from ocr.models import OcrJob
from ocr.reader import PageOutcome
from ocr.runner import store as store_page
from tests.environment import ROOT
from tests.factories import DocumentFactory, OcrJobFactory, StaffFactory, UserFactory
from tests.services import RedisServer

TOKEN = "a-token-of-prometheus"


def families(client: Client | None = None) -> dict[str, Metric]:
    answer = (client or Client()).get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.content
    return {one.name: one for one in text_string_to_metric_families(answer.content.decode())}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float | None:
    """The one sample of this name that has these labels."""
    values = [
        one.value
        for family in found.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert len(values) < 2, (sample, labels, values)
    return values[0] if values else None


@pytest.fixture(autouse=True)
def token(settings) -> None:
    settings.METRICS_TOKEN = TOKEN


@pytest.fixture
def job(db) -> Callable[..., OcrJob]:
    """Makes jobs, all on one document: a user's password takes long to hash."""
    document = DocumentFactory()
    return lambda **fields: OcrJobFactory(document=document, **fields)


@pytest.fixture
def redis(redis_server: RedisServer, settings, monkeypatch) -> RedisServer:
    """Figures go to Redis; the messages of jobs stay where they were."""
    redis_server.wipe()
    settings.CELERY_BROKER_URL = redis_server.url
    monkeypatch.setattr(counting, "_sums", counting.Sums())
    return redis_server


# -- who may look ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_token_opens_it_and_nothing_else(client: Client, settings) -> None:
    def status(authorization: str) -> int:
        return client.get("/metrics", headers={"Authorization": authorization}).status_code

    assert status(f"Bearer {TOKEN}") == 200
    for wrong in (f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN, "Bearer ", "Bearer ü"):
        assert status(wrong) == 401, wrong
    answer = client.get("/metrics")
    assert answer.status_code == 401 and answer["WWW-Authenticate"] == "Bearer"
    assert "METRICS_TOKEN" in answer.json()["error"]["message"]
    assert (
        client.get("/api/v1/documents/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code
        == 401
    )
    # An empty token opens nothing, and says what is missing.
    settings.METRICS_TOKEN = ""
    assert status("Bearer ") == status(f"Bearer {TOKEN}") == 401
    assert "make env" in client.get("/metrics").json()["error"]["message"]


@pytest.mark.django_db
def test_people_who_run_the_platform_may_look(client: Client) -> None:
    _key, token = ApiKey.objects.create(user=StaffFactory(role="operator"))
    assert client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    client.force_login(StaffFactory(role="admin"))
    assert client.get("/metrics").status_code == 200
    for user in (StaffFactory(role="annotator"), UserFactory(role="client")):
        client.force_login(user)
        refused = client.get("/metrics")
        assert refused.status_code == 403
        assert "mlops.view_queuepulse" in refused.json()["error"]["message"]


@pytest.mark.django_db
def test_the_public_port_has_none(client: Client, settings) -> None:
    settings.ROOT_URLCONF = "mlops.urls_user"
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 404


# -- rows --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_jobs_that_have_not_ended(job: Callable[..., OcrJob]) -> None:
    now = timezone.now()
    waiting = job(sent_at=now - timedelta(minutes=10))
    job(sent_at=now - timedelta(minutes=2))
    job(held=True)
    job(after=waiting)
    job(status=Job.Status.RUNNING, heartbeat_at=now)
    job(status=Job.Status.SUCCEEDED)
    found = families()
    labels = {"kind": OcrJob.KIND, "queue": "ocr"}
    assert value(found, "mlops_jobs", **labels, status="queued") == 4
    assert value(found, "mlops_jobs", **labels, status="running") == 1
    assert value(found, "mlops_jobs", **labels, status="succeeded") is None
    # Neither the paused one nor the one that waits for another is a worker's to take.
    assert value(found, "mlops_queue_due_jobs", queue="ocr") == 2
    assert 600 <= value(found, "mlops_queue_oldest_due_seconds", queue="ocr") < 900
    # Nothing waits: a zero, which an alert can be ended by.
    assert value(found, "mlops_queue_due_jobs", queue="train") == 0
    assert value(found, "mlops_queue_oldest_due_seconds", queue="train") == 0
    assert value(found, "mlops_queue_seen", queue="ocr") == 1
    assert value(found, "mlops_queue_seen", queue="llm") == 0
    assert value(found, "mlops_up", part="database") == value(found, "mlops_up", part="broker") == 1
    assert value(found, "mlops_broker_messages", queue="ocr") is not None


@pytest.mark.django_db
def test_a_queue_is_seen_by_a_pulse_or_by_a_job_that_has_just_ended() -> None:
    QueuePulse.objects.create(queue="llm", seen_at=timezone.now(), worker="one")
    old = timezone.now() - timedelta(hours=1)
    QueuePulse.objects.create(queue="train", seen_at=old, worker="two")
    OcrJobFactory(status=Job.Status.SUCCEEDED, heartbeat_at=timezone.now())
    found = families()
    seen = {queue: value(found, "mlops_queue_seen", queue=queue) for queue in ("ocr", "llm")}
    assert seen == {"ocr": 1, "llm": 1}
    assert value(found, "mlops_queue_seen", queue="train") == 0


@pytest.mark.django_db
def test_how_far_mlflow_is_behind(job: Callable[..., OcrJob]) -> None:
    ended = {"status": Job.Status.SUCCEEDED, "tracking": Job.Tracking.PENDING}
    for minutes in (5, 30):
        job(**ended, finished_at=timezone.now() - timedelta(minutes=minutes))
    found = families()
    assert value(found, "mlops_tracking_pending_jobs") == 2
    assert 1800 <= value(found, "mlops_tracking_lag_seconds") < 2400


@pytest.mark.django_db
def test_language_models_and_trainings() -> None:
    model = LanguageModel.objects.create(name="small")
    today = datetime.now(UTC).date()
    tokens = {"prompt_tokens": 70, "completion_tokens": 30}
    for user in (None, UserFactory()):
        Usage.objects.create(day=today, owner=user, model=model, requests=3, **tokens)
    Usage.objects.create(day=today - timedelta(days=1), model=model, requests=99)
    ModelInstance.objects.create(
        model=model, worker="w:1", state="ready", memory_bytes=5, seen_at=timezone.now()
    )
    job = {"kind": TrainingJob.KIND, "queue": "train", "method": "sft"}
    running = {"status": Job.Status.RUNNING, "lease_until": timezone.now()}
    TrainingJob.objects.create(
        **job, **running, name="tune", progress_done=3, progress_total=9, loss=1.5
    )
    TrainingJob.objects.create(**job, name="later", loss=2.5)
    found = families()
    assert value(found, "mlops_llm_requests_total", model="small") == 6
    assert value(found, "mlops_llm_tokens_total", model="small", part="prompt") == 140
    assert value(found, "mlops_llm_tokens_total", model="small", part="completion") == 60
    assert value(found, "mlops_llm_model_memory_bytes", model="small", state="ready") == 5
    assert value(found, "mlops_training_steps", name="tune") == 3
    assert value(found, "mlops_training_steps_planned", name="tune") == 9
    assert value(found, "mlops_training_loss", name="tune") == 1.5
    # Not known yet, and not running: nothing is said.
    assert value(found, "mlops_training_eval_loss", name="tune") is None
    assert value(found, "mlops_training_loss", name="later") is None


@pytest.mark.django_db
def test_names_and_texts() -> None:
    """Prometheus' rules: a prefix, base units, `_total` for counters alone; a text each."""
    JOBS_ENDED.add("a kind", "ocr", "failed")
    for name, family in families().items():
        assert name.startswith("mlops_") and family.documentation.endswith("."), name
        assert not name.endswith(("_ms", "_mb", "_count", "_total")), name
        if family.type == "counter":
            assert all(sample.name == f"{name}_total" for sample in family.samples)


@pytest.mark.django_db
def test_it_takes_as_many_queries_with_many_jobs(
    job: Callable[..., OcrJob], django_assert_max_num_queries
) -> None:
    for _ in range(20):
        job()
    with django_assert_max_num_queries(12):
        families()


# -- what is counted ---------------------------------------------------------------------------


def counted(figure: Counter | Histogram) -> dict[tuple[str, ...], float]:
    """Of a figure's labels, and a histogram's limits."""
    return {
        tuple(key[1:]): amount
        for key, amount in counting.everything().items()
        if key[0] == figure.name
    }


@pytest.fixture
def alone(monkeypatch) -> None:
    """A process that has counted nothing yet."""
    monkeypatch.setattr(counting, "_sums", counting.Sums())


@pytest.mark.django_db(transaction=True)
def test_every_way_in_which_a_job_ends(job: Callable[..., OcrJob], alone) -> None:
    def ends(run: Callable) -> str:
        return jobs.execute(OcrJob, job().pk, run)

    def fail(*_: object) -> None:
        raise JobFailed("no", code="no")

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    def well(*_: object) -> None:
        return None

    assert [ends(run) for run in (well, well, fail, crash)] == [
        *("succeeded", "succeeded", "failed", "failed")
    ]
    job().cancel()
    lost = {"lease_until": timezone.now() - timedelta(minutes=1), "status": Job.Status.RUNNING}
    job(**lost, attempts=3, max_attempts=3)
    job(**lost, cancel_requested=True)
    job(**lost, attempts=1, max_attempts=3)
    assert reconcile.jobs_reap() == 3
    of = {status: (OcrJob.KIND, "ocr", status) for status in ("succeeded", "failed", "cancelled")}
    assert counted(JOBS_ENDED) == {of["succeeded"]: 2, of["failed"]: 3, of["cancelled"]: 2}
    # Jobs that were run took a time.
    found = families()
    assert value(found, "mlops_job_seconds_count", kind=OcrJob.KIND) == 4
    assert value(found, "mlops_job_seconds_bucket", kind=OcrJob.KIND, le="+Inf") == 4


@pytest.mark.django_db
def test_pages_by_what_read_them(alone) -> None:
    job = OcrJobFactory()
    page = job.document.pages.get()
    store_page(job, page.pk, PageOutcome(engine="rapidocr", seconds=0.7))
    store_page(job, page.pk, PageOutcome(engine="rapidocr", seconds=20, error="no"))
    found = families()
    assert value(found, "mlops_ocr_pages_total", engine="rapidocr", outcome="read") == 1
    assert value(found, "mlops_ocr_pages_total", engine="rapidocr", outcome="failed") == 1
    times = {"engine": "rapidocr"}
    assert value(found, "mlops_ocr_page_seconds_bucket", **times, le="0.5") == 0
    assert value(found, "mlops_ocr_page_seconds_bucket", **times, le="1.0") == 1
    assert value(found, "mlops_ocr_page_seconds_count", **times) == 2
    assert value(found, "mlops_ocr_page_seconds_sum", **times) == pytest.approx(20.7)


@pytest.mark.django_db
def test_requests_by_route_not_by_path(alone, client: Client, admin_client: Client) -> None:
    job = OcrJobFactory()
    for path in ("/health", f"/api/v1/ocr/jobs/{job.pk}/", "/wp-login.php", "/other/nonsense"):
        client.get(path)
    admin_client.get(f"/admin/ocr/ocrjob/{job.pk}/change/")
    client.generic("BREW", "/health")
    found = families(client)
    assert str(job.pk) not in str(found["mlops_http_requests"].samples)

    def requests(**labels: str) -> float | None:
        return value(found, "mlops_http_requests_total", urls="all", **labels)

    assert requests(method="GET", route="/health", status="200") == 1
    assert requests(route="/api/v1/ocr/jobs/<pk>/", status="401") == 1
    assert requests(route="(none)", status="404") == 2
    assert requests(route="/admin/ocr/ocrjob/<path:object_id>/change/") == 1
    assert requests(method="OTHER", route="/health") == 1
    assert value(found, "mlops_http_request_seconds_count", method="GET", route="/health") == 1


@pytest.mark.django_db
def test_async_requests_and_clients_that_hang_up(alone) -> None:
    async def ask() -> None:
        assert (await AsyncClient().get("/health")).status_code == 200
        # A view that its client hangs up on.
        begun = asyncio.Event()

        async def slow(_request: object) -> None:
            begun.set()
            await asyncio.sleep(60)

        gone = asyncio.create_task(count_requests(slow)(AsyncRequestFactory().get("/x")))
        await begun.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)

    asyncio.run(ask())
    found = families()
    assert value(found, "mlops_http_requests_total", route="/health", status="200") == 1
    assert value(found, "mlops_http_requests_total", route="(none)", status="499") == 1


# -- over all processes ------------------------------------------------------------------------

OTHER = """
import os, django
django.setup()
from mlops.metrics.ends import job_ended
for number in range(3):
    job_ended(kind="k", queue="q", status="failed", seconds=2)
    if number == 1 and os.fork() == 0:
        # A child writes what it counts itself, and not its parent's once more.
        job_ended(kind="k", queue="q", status="succeeded")
        raise SystemExit
os.wait()
"""


@pytest.mark.django_db
def test_all_processes_in_one_sum(redis: RedisServer) -> None:
    JOBS_ENDED.add("k", "q", "failed", amount=10)
    done = subprocess.run(
        [sys.executable, "-c", OTHER],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mlops.settings",
            "CELERY_BROKER_URL": redis.url,
        },
        check=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert counted(JOBS_ENDED) == {("k", "q", "failed"): 13, ("k", "q", "succeeded"): 1}
    found = families()
    assert value(found, "mlops_jobs_ended_total", kind="k", status="failed") == 13
    assert value(found, "mlops_job_seconds_sum", kind="k") == 6


@pytest.mark.django_db
def test_redis_away_and_back(redis: RedisServer) -> None:
    JOBS_ENDED.add("k", "q", "failed")
    counting.flush()
    redis.kill()
    JOBS_ENDED.add("k", "q", "failed")
    counting.flush()
    found = families()
    assert value(found, "mlops_up", part="broker") == 0
    assert value(found, "mlops_up", part="database") == 1
    assert value(found, "mlops_queue_due_jobs", queue="ocr") == 0
    redis.start()
    # What it has forgotten begins anew; what came meanwhile was kept.
    assert counted(JOBS_ENDED) == {("k", "q", "failed"): 1}


@pytest.mark.django_db
def test_what_workers_tell(redis: RedisServer, monkeypatch) -> None:
    gpu = Gpu("0", "GPU-1", Room(30, 100), 0.5)
    monkeypatch.setattr(machine, "gpus", lambda: [gpu])
    monkeypatch.setattr(workers._Gpus, "at", -1e9)
    workers.tell(["ocr", "default"])
    monkeypatch.setattr(workers, "worker_name", lambda: "other:7")
    workers.tell(["ocr"])
    found = families()
    assert value(found, "mlops_queue_workers", queue="ocr") == 2
    assert value(found, "mlops_queue_workers", queue="default") == 1
    assert value(found, "mlops_queue_workers", queue="train") == 0
    one = {"worker": "other:7", "queues": "ocr"}
    limit = value(found, "mlops_worker_memory_limit_bytes", **one)
    assert 0 < value(found, "mlops_worker_memory_used_bytes", **one) < limit
    assert value(found, "mlops_worker_disk_size_bytes", **one, folder="work") > 0
    assert value(found, "mlops_worker_gpu_memory_used_bytes", **one, gpu="0", uuid="GPU-1") == 30
    assert value(found, "mlops_worker_gpu_memory_size_bytes", **one) == 100
    assert value(found, "mlops_worker_gpu_busy_ratio", **one) == 0.5
    # One that has fallen silent is gone.
    told = workers.Told(worker="old:1", queues=["ocr"], at=1.0)
    store.client().hset(workers.KEY, told.worker, told.text())
    assert value(families(), "mlops_queue_workers", queue="ocr") == 2
    assert not store.client().hexists(workers.KEY, told.worker)


def test_workers_tell_in_each_round() -> None:
    assert "mlops.metrics.workers.tell" in live_settings.WORKER_STEPS
    for path in live_settings.METRIC_SOURCES:
        assert import_string(path).rows


# -- machines ----------------------------------------------------------------------------------


def test_memory_of_a_container(tmp_path: Path) -> None:
    """Control groups of both versions; without a limit the machine's own."""
    (tmp_path / "proc").mkdir()
    meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n"
    (tmp_path / "proc/meminfo").write_text(meminfo)
    machines = Room(600 * 1024, 1000 * 1024)
    assert machine.memory(tmp_path) == machines

    old = tmp_path / "sys/fs/cgroup/memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (old / "memory.usage_in_bytes").write_text("700\n")
    (old / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 200\n")
    assert machine.memory(tmp_path) == machines
    (old / "memory.limit_in_bytes").write_text("2000\n")
    assert machine.memory(tmp_path) == Room(500, 2000)

    new = old.parent
    (new / "memory.max").write_text("max\n")
    (new / "memory.current").write_text("900\n")
    (new / "memory.stat").write_text("anon 1\ninactive_file 100\n")
    assert machine.memory(tmp_path) == Room(500, 2000)
    (new / "memory.max").write_text("3000\n")
    assert machine.memory(tmp_path) == Room(800, 3000)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("0, GPU-a, 512, 1024, 50", [Gpu("0", "GPU-a", Room(512 << 20, 1024 << 20), 0.5)]),
        ("0, GPU-a, 512, 1024, [N/A]", [Gpu("0", "GPU-a", Room(512 << 20, 1024 << 20), 0.0)]),
        ("0, GPU-a, [N/A], [N/A], [N/A]", []),
        ("No devices were found", []),
    ],
)
def test_gpus(tmp_path: Path, monkeypatch, said: str, found: list[Gpu]) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.gpus() == found


def test_no_gpu(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
