"""How many workers the manifests ask for, by the very queries that KEDA sends to PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import ProgrammingError
from django.utils import timezone

from mlops.models import Job
from tests.docker.manifests import environment, guide, main, of_kind, pod

SCALED = of_kind("cpu", "ScaledObject")


def trigger(name: str) -> dict[str, str]:
    (one,) = SCALED[name]["spec"]["triggers"]
    return one["metadata"]


def asked(name: str) -> float:
    """What KEDA is answered; it reads one number of one row."""
    with connection.cursor() as cursor:
        cursor.execute(trigger(name)["query"])
        ((number,),) = cursor.fetchall()
    assert isinstance(number, int)
    return number


def job(queue: str, status: str = Job.Status.QUEUED, **fields: Any) -> Job:
    if status == Job.Status.RUNNING:
        fields = {"lease_until": timezone.now() + timedelta(seconds=30)} | fields
    return Job.objects.create(kind=f"tests.{queue}", queue=queue, status=status, **fields)


def test_each_queue_has_its_workers() -> None:
    queues = {name: re.findall(r"queue = '(\w+)'", trigger(name)["query"]) for name in SCALED}
    assert queues == {f"worker-{name}": [name] for name in settings.QUEUES}
    known = {child.QUEUE for child in Job.__subclasses__()} | {Job.QUEUE}
    assert known <= set(settings.QUEUES)
    for name, (queue,) in queues.items():
        container = main(of_kind("cpu", "Deployment")[name])
        # Where the arguments are the image's own, its Dockerfile has them.
        if "args" in container:
            assert container["args"][container["args"].index("-Q") + 1] == queue


@pytest.mark.django_db
@pytest.mark.parametrize("queue", ["default", "ocr", "llm", "train"])
def test_jobs_that_want_a_worker_are_counted(queue: str) -> None:
    first = job(queue)
    job(queue)
    job(queue, Job.Status.RUNNING)
    # The worker is lost, the lease has run out: somebody has to take the job over.
    job(queue, Job.Status.RUNNING, lease_until=timezone.now() - timedelta(hours=1))
    # What wants none: paused, after another one, waiting for its parts, ended, of another queue.
    job(queue, held=True)
    job(queue, after=first)
    job(queue, Job.Status.RUNNING, lease_until=None)
    for status in (Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED):
        job(queue, status)
    job("ocr" if queue != "ocr" else "llm")
    assert asked(f"worker-{queue}") == 4


@pytest.mark.django_db
def test_nothing_to_do_is_nought() -> None:
    assert {asked(name) for name in SCALED} == {0}


@pytest.mark.django_db
def test_long_documents_count_for_more() -> None:
    job("ocr", progress_total=99)
    job("ocr", Job.Status.RUNNING, progress_total=2000, progress_done=650)
    job("ocr", Job.Status.RUNNING, progress_total=3, progress_done=4)
    job("ocr", Job.Status.RUNNING, lease_until=None, progress_total=9000)
    assert asked("worker-ocr") == 3 + 13


@pytest.mark.django_db
def test_the_scalers_user_sees_numbers_alone() -> None:
    job("ocr", webhook_url="https://example.org/secret")
    (text,) = guide("sql")
    with connection.cursor() as cursor:
        for statement in text.split(";"):
            if statement.strip():
                cursor.execute(statement)
        cursor.execute("SET LOCAL ROLE scaler")
        try:
            assert asked("worker-ocr") == 1
            assert [asked(name) for name in SCALED].count(0) == 3
            for query in ("SELECT webhook_url FROM mlops_job", "SELECT email FROM mlops_user"):
                with (
                    pytest.raises(ProgrammingError, match="permission denied"),
                    transaction.atomic(),
                ):
                    cursor.execute(query)
        finally:
            cursor.execute("RESET ROLE")


def test_training_is_not_cut_short_by_scaling() -> None:
    spec = SCALED["worker-train"]["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleDown"] == {"selectPolicy": "Disabled"}
    assert spec["minReplicaCount"] == 0 and spec["cooldownPeriod"] >= 300
    assert trigger("worker-train")["targetQueryValue"] == "1"


@pytest.mark.parametrize(
    ("name", "patience"),
    [("worker-train", "TRAINING_STOP_SECONDS"), ("worker-llm", "LLM_STOP_SECONDS")],
)
def test_pods_may_take_as_long_as_their_worker_does(name: str, patience: str) -> None:
    deployment = of_kind("cpu", "Deployment")[name]
    own = float(environment("cpu", main(deployment))[patience])
    assert own >= getattr(settings, patience)
    assert pod(deployment)["terminationGracePeriodSeconds"] >= own + 30


def test_one_worker_of_language_models_ends_before_the_next() -> None:
    behaviour = SCALED["worker-llm"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"][
        "behavior"
    ]
    (policy,) = behaviour["scaleDown"]["policies"]
    grace = pod(of_kind("cpu", "Deployment")["worker-llm"])["terminationGracePeriodSeconds"]
    assert policy["type"] == "Pods" and policy["value"] == 1
    assert policy["periodSeconds"] > grace


def test_what_a_web_process_waits_for_is_always_there() -> None:
    """With workers that scale to none, /ready must not want a sign of life from their queues."""
    never_none = {name for name, one in SCALED.items() if one["spec"]["minReplicaCount"] > 0}
    for name in ("admin-api", "user-api"):
        env = environment("cpu", main(of_kind("cpu", "Deployment")[name]))
        wanted = {f"worker-{queue}" for queue in env["READY_QUEUES"].split(",") if queue}
        assert wanted <= never_none
