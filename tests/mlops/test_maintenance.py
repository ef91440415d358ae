"""What a worker does between jobs, and when it gives itself up."""

from __future__ import annotations

import os
import signal

import pytest
from django.db import OperationalError
from django.utils import timezone

from mlops import maintenance, queues
from mlops.maintenance import Maintenance
from mlops.models import QueuePulse
from mlops.tasks import jobs_maintain, pulse

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(maintenance, "time", clock)
    return clock


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(maintenance.os, "kill", lambda pid, how: calls.append((pid, how)))
    return calls


def rounds(thread: Maintenance, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        thread._pulse()
        clock.now += 1


def test_a_deaf_worker_ends_itself(clock: Clock, killed, monkeypatch, settings) -> None:
    settings.QUEUE_SEEN_SECONDS = 10
    monkeypatch.setattr(maintenance.reconcile, "pulses_send", lambda names: None)
    thread = Maintenance(worker="w", queues=["ocr"])
    rounds(thread, clock, 25)
    assert not killed
    rounds(thread, clock, 15)
    assert killed[0] == (os.getpid(), signal.SIGTERM)


def test_one_that_hears_its_pulses_stays(clock: Clock, killed, monkeypatch, settings) -> None:
    settings.QUEUE_SEEN_SECONDS = 10

    def heard(names: list[str]) -> None:
        QueuePulse.objects.update_or_create(queue="ocr", defaults={"seen_at": timezone.now()})

    monkeypatch.setattr(maintenance.reconcile, "pulses_send", heard)
    rounds(Maintenance(worker="w", queues=["ocr"]), clock, 100)
    assert not killed


def test_without_a_broker_nobody_is_deaf(clock: Clock, killed, monkeypatch, settings) -> None:
    settings.QUEUE_SEEN_SECONDS = 10

    def away(names: list[str]) -> None:
        raise ConnectionRefusedError("no broker")

    monkeypatch.setattr(maintenance.reconcile, "pulses_send", away)
    rounds(Maintenance(worker="w", queues=["ocr"]), clock, 100)
    assert not killed


def test_a_step_that_fails_stops_no_other(monkeypatch) -> None:
    ran = []

    def away() -> None:
        raise OperationalError("the database went away")

    def broken() -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(maintenance.reconcile, "jobs_reap", away)
    monkeypatch.setattr(maintenance.reconcile, "jobs_resend", broken)
    monkeypatch.setattr(maintenance.flush, "jobs_track", lambda: ran.append(1))
    jobs_maintain()
    assert ran == [1]


def test_pulses_go_through_empty_queues_alone(monkeypatch) -> None:
    sent = []
    monkeypatch.setattr(queues, "depths", lambda names: {"ocr": 0, "llm": 4})
    monkeypatch.setattr(
        maintenance.reconcile.app, "send_task", lambda name, **how: sent.append(how["queue"])
    )
    maintenance.reconcile.pulses_send(names=["ocr", "llm"])
    assert sent == ["ocr"]


def test_a_pulse_that_is_consumed_is_written_down() -> None:
    pulse("ocr")
    first = QueuePulse.objects.get(queue="ocr").seen_at
    pulse("ocr")
    assert QueuePulse.objects.get(queue="ocr").seen_at >= first
