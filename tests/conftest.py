"""Fixtures for the whole suite; `tests/environment.py` has prepared the process already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from django.conf import settings
from playwright.sync_api import expect

from tests.services import CerbosServer, MissingProgram, PostgresServer, RedisServer

# A machine that does other work besides is slow, not wrong.
expect.set_options(timeout=60_000)

AnyServer = TypeVar("AnyServer", PostgresServer, RedisServer, CerbosServer)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A second PostgreSQL, apart from the suite's own: a test may stop, kill and wipe it.

    Leave it running.
    """
    with installed(PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that keeps nothing on disk. Leave it running; clear it with `wipe()`."""
    with installed(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def cerbos_server() -> Iterator[CerbosServer]:
    """Cerbos with the platform's policies. Leave it running, and its policies as they were."""
    with installed(CerbosServer) as server:
        yield server


def installed(kind: type[AnyServer]) -> AnyServer:
    try:
        return kind()
    except MissingProgram as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """On SQLite a file, as the platform uses it: in memory, threads lock each other out."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(settings.DATA_DIR / "test.sqlite3")
