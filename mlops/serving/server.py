"""The process that serves: listens at once, loads, answers, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from socket import socket
from typing import Protocol

import structlog
import uvicorn
from starlette.types import ASGIApp

log = structlog.get_logger(__name__)

# How long an idle connection is kept: longer than clients keep theirs, so that they close first.
_KEEP_ALIVE = 75
# For telling clients that time has run out.
_LAST_WORDS_SECONDS = 1


class Desk(Protocol):
    """What stands behind the server."""

    # Whether requests are taken.
    loaded: bool
    # Requests that were dropped because the server had to end.
    cut_off: int

    def load(self) -> None:
        """Called in a thread, once the server listens. What it raises ends the server."""
        ...

    def expire(self) -> None:
        """Called in the loop when time to finish is over: tell those who still wait."""
        ...

    def close(self) -> None:
        """Called after the last answer, once the loop has ended."""
        ...


class ModelServer(uvicorn.Server):
    """Answers /health while it loads; ends if loading fails, with what it failed with."""

    def __init__(self, config: uvicorn.Config, desk: Desk, *, stop_seconds: float) -> None:
        super().__init__(config)
        self.failure: BaseException | None = None
        self._desk = desk
        self._stop_seconds = stop_seconds
        # Not the loop's own threads, for which a loop that ends would wait.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._loading: asyncio.Future[None]

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        started = time.perf_counter()
        self._loading = asyncio.get_running_loop().run_in_executor(self._loader, self._desk.load)

        def loaded(done: asyncio.Future[None]) -> None:
            self.failure = done.exception()
            self.should_exit = self.should_exit or self.failure is not None
            if self.failure is None:
                log.info("model_loaded", seconds=round(time.perf_counter() - started, 2))

        self._loading.add_done_callback(loaded)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._stop_seconds, self._desk.expire)
        await super().shutdown(sockets)
        expiry.cancel()


def serve(app: ASGIApp, desk: Desk, *, host: str, port: int, stop_seconds: float) -> None:
    """Serves until SIGTERM or SIGINT; what was taken is finished within `stop_seconds`.

    Raises what loading the model raised. If time runs out, the process ends with status 1.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=round(stop_seconds) + _LAST_WORDS_SECONDS,
    )
    server = ModelServer(config, desk, stop_seconds=stop_seconds)
    # uvicorn raises the signal again once it has stopped, for whoever had set a handler before
    # it: to stop is what was asked for, so there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    log.info("serving", host=host, port=port)
    server.run()
    if server.failure is not None:
        raise server.failure
    desk.close()
    if desk.cut_off:
        log.error("stopped_with_requests_unanswered", requests=desk.cut_off)
    if desk.cut_off or not desk.loaded:
        sys.stdout.flush()
        sys.stderr.flush()
        # A thread inside a network can't be ended, and would be waited for.
        os._exit(1 if desk.cut_off else 0)
