from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import PostgresServer, RedisServer
from tests.stack import Stack


@pytest.fixture(scope="session")
def production(postgres_server: PostgresServer, redis_server: RedisServer) -> Iterator[Stack]:
    """PostgreSQL and Redis, web and one worker."""
    with Stack(DATABASE_URL=postgres_server.url, REDIS_URL=redis_server.url) as stack:
        stack.web()
        stack.worker()
        stack.ready()
        yield stack
