"""`Idempotency-Key`: what is sent twice acts once, however close together."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from mlops import idempotency
from mlops.exceptions import ApplicationError
from mlops.models import IdempotencyKey, Job, User

pytestmark = pytest.mark.django_db


def make_job() -> Job:
    return Job.objects.create(kind="test.job", queue="default")


@pytest.fixture
def user() -> User:
    return User.objects.create_user("kim", password="a-long-password")


def test_same_request_twice_is_one_job(user: User) -> None:
    first = idempotency.once(make_job, owner=user, key="k-1", fingerprint="f")
    again = idempotency.once(make_job, owner=user, key="k-1", fingerprint="f")
    assert first == (again[0], False) and again[1] is True
    assert Job.objects.count() == 1


def test_other_content_is_refused(user: User) -> None:
    idempotency.once(make_job, owner=user, key="k-1", fingerprint="f")
    with pytest.raises(ApplicationError) as refused:
        idempotency.once(make_job, owner=user, key="k-1", fingerprint="other")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


def test_keys_are_their_owners(user: User) -> None:
    other = User.objects.create_user("lee", password="a-long-password")
    for owner in (user, other):
        _job, replayed = idempotency.once(make_job, owner=owner, key="k", fingerprint="f")
        assert not replayed
    assert Job.objects.count() == 2


def test_request_that_fails_leaves_the_key_unused(user: User) -> None:
    def fail() -> Job:
        raise ApplicationError("no")

    with pytest.raises(ApplicationError):
        idempotency.once(fail, owner=user, key="k", fingerprint="f")
    _job, replayed = idempotency.once(make_job, owner=user, key="k", fingerprint="other")
    assert not replayed


def test_old_keys_are_forgotten(user: User) -> None:
    idempotency.once(make_job, owner=user, key="old", fingerprint="f")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    _job, replayed = idempotency.once(make_job, owner=user, key="old", fingerprint="other")
    assert not replayed
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert idempotency.keys_expire() == 1


def test_request_that_died_on_the_way_does_not_block_its_key(user: User) -> None:
    IdempotencyKey.objects.create(owner=user, key="k", fingerprint="f", created_at=timezone.now())
    with pytest.raises(ApplicationError) as refused:
        idempotency.once(make_job, owner=user, key="k", fingerprint="f")
    assert (refused.value.status, refused.value.code) == (409, "idempotency_in_progress")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    _job, replayed = idempotency.once(make_job, owner=user, key="k", fingerprint="f")
    assert not replayed


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "caf\u00e9"])
def test_key_that_is_none(user: User, key: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        idempotency.once(make_job, owner=user, key=key, fingerprint="f")
    assert refused.value.code == "invalid_idempotency_key"


@pytest.mark.django_db(transaction=True)
def test_at_once_from_many_sides_makes_one_job(user: User) -> None:
    together = threading.Barrier(6)

    def send(_: int) -> str:
        together.wait(30)
        try:
            job, _replayed = idempotency.once(make_job, owner=user, key="k", fingerprint="f")
            return str(job.pk)
        except ApplicationError as error:
            return error.code
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(send, range(6)))
    (job,) = Job.objects.all()
    assert str(job.pk) in answers
    assert answers <= {str(job.pk), "idempotency_in_progress"}


def test_fingerprint_tells_fields_and_contents_apart() -> None:
    def of(place: str, fields: list, *files: bytes) -> str:
        return idempotency.fingerprint(place, fields, [io.BytesIO(file) for file in files])

    same = of("/jobs", [("a", "1"), ("b", "2")], b"x")
    assert same == of("/jobs", [("b", "2"), ("a", "1")], b"x")
    others = [
        of("/batches", [("a", "1"), ("b", "2")], b"x"),
        of("/jobs", [("a", "1"), ("b", "3")], b"x"),
        of("/jobs", [("a", "1"), ("b", "2")], b"y"),
        of("/jobs", [("a", "1"), ("b", "2")], b"x", b""),
    ]
    assert len({same, *others}) == 5
