"""The LLM service in the tests' own process: a real HTTP server, and threads that do its jobs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from django.db import connection
from openai import AsyncOpenAI, OpenAI

from llm import held
from llm.models import GenerationJob, LanguageModel
from llm.services.models import model_save
from llm.tasks import generate
from mlops import engines
from mlops.asgi import application
from mlops.models import ApiKey, Job, User
from tests.services import wait_for

FAKE = "tests.fakes.FakeLanguageEngine"


class Service:
    """Needs a database that threads see (`transaction=True`). Made by `service()`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.user = User.objects.create_user("kim", password="a-long-password")
        self.api_key, self.token = ApiKey.objects.create(user=self.user)
        # While cleared, requests stay queued.
        self.working = threading.Event()
        self.working.set()
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(16)
        self._looking = threading.Thread(target=self._look)
        self._looking.start()

    def model(self, name: str = "echo", **fields: Any) -> LanguageModel:
        return model_save(model=LanguageModel(name=name, engine="fake", source=name), **fields)

    def client(self, **options: Any) -> OpenAI:
        """One that tells of each failure at once."""
        options = {"api_key": self.token, "max_retries": 0, **options}
        return OpenAI(base_url=f"{self.url}/v1", **options)

    def async_client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.token, max_retries=0)

    def http(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def job(self) -> GenerationJob:
        """The newest request, once it has ended."""
        assert wait_for(lambda: self.latest().finished)
        return self.latest()

    def latest(self) -> GenerationJob:
        return GenerationJob.objects.order_by("-created_at").select_related("model").first()

    def close(self) -> None:
        self._ended.set()
        self._looking.join()
        self._threads.shutdown()

    def _look(self) -> None:
        sent: set[Any] = set()
        while not self._ended.wait(0.01):
            queued = Job.objects.filter(kind=GenerationJob.KIND, status=Job.Status.QUEUED)
            if self.working.is_set():
                for pk in set(queued.values_list("pk", flat=True)) - sent:
                    sent.add(pk)
                    self._threads.submit(self._do, str(pk))
        connection.close()

    def _do(self, pk: str) -> None:
        try:
            generate(pk)
        finally:
            connection.close()


@contextmanager
def service(settings: Any, **engine_options: Any) -> Iterator[Service]:
    """Served by uvicorn, with the fake engine under the name "fake"."""
    settings.ENGINES = {
        **settings.ENGINES,
        "llm": {"fake": {"BACKEND": FAKE, "OPTIONS": engine_options}},
    }
    engines._caches.clear()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert wait_for(lambda: server.started)
        made = Service(f"http://127.0.0.1:{listening.getsockname()[1]}")
        try:
            yield made
        finally:
            made.close()
            server.should_exit = True
            thread.join()
            held.holder.close()
            engines._caches.clear()
