"""Models on any OpenAI-compatible server: vLLM, SGLang, Ollama, `manage.py serve_llm`."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import structlog

from llm.engines.base import (
    Embeddings,
    Event,
    Failed,
    GenerationRequest,
    Listener,
    ModelSource,
    Occupancy,
)
from llm.engines.openai_answers import TOOL_FORMAT, AnswerReader, Garbage, embeddings
from llm.engines.openai_bodies import EMBEDDINGS, generation_body
from mlops.exceptions import ApplicationError, EngineUnavailable

if TYPE_CHECKING:
    from llm.engines.openai_client import Upstream

log = structlog.get_logger(__name__)

# Servers don't say how many tokens a text has: about one for as many bytes.
_BYTES_A_TOKEN = 4
_CLOSE_SECONDS = 5.0
_CLOSED = Failed("The model is being unloaded. Try again.", code="model_unloaded", status=503)


class OpenAIEngine:
    """Loads nothing: its models are names on other servers.

    Options, of the engine or of one model: `urls`, of servers that hold the same model; `model`,
    its name there (else the source, else the model's own name); `api_key`, the name of the
    environment variable that holds the key; `timeout` and `patience` in seconds and the `health`
    path, as Upstream has them. An adapter's source is its name there.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "embeddings"})

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.device = "remote"

    def load(self, source: ModelSource) -> OpenAIModel:
        """Raises EngineUnavailable for what is missing here; a server need not be up yet."""
        return OpenAIModel(source, {**self._options, **source.options})


class OpenAIModel:
    """One model on one or several servers. All its requests live in one thread's event loop."""

    memory_bytes = 0
    tool_format = TOOL_FORMAT

    def __init__(self, source: ModelSource, options: Mapping[str, Any]) -> None:
        self.source = source
        self.context_length = source.context_length
        self._name = options.get("model") or source.path or source.name
        urls = options.get("urls") or ()
        urls = [urls] if isinstance(urls, str) else list(urls)
        self._upstream = _upstream(source.name, urls, options)
        self.device = f"remote {', '.join(urlsplit(url).netloc for url in urls)}"
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"openai-{source.name}", daemon=True
        )
        self._thread.start()

    @property
    def occupancy(self) -> Occupancy:
        """What is under way from here; what else its servers do, they don't tell."""
        return Occupancy(running=len(self._tasks))

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        if self._closing:
            raise ApplicationError(_CLOSED.message, code=_CLOSED.code, status=_CLOSED.status)
        self._loop.call_soon_threadsafe(self._begin, request, listener)

    def cancel(self, request_id: str) -> None:
        if not self._closing:
            self._loop.call_soon_threadsafe(self._end, request_id)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """Raises ApplicationError: the chat template is the server's."""
        raise ApplicationError(
            f"'{self.source.name}' runs on another server, which alone knows its chat template.",
            code="not_supported",
        )

    def count(self, text: str) -> int:
        """About: the tokenizer is the server's."""
        return -(-len(text.encode()) // _BYTES_A_TOKEN)

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        return self._wait(self._embed(texts))

    def close(self) -> None:
        if not self._closing:
            self._wait(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_SECONDS)
            self._loop.close()

    # -- in the loop --------------------------------------------------------------------------

    def _begin(self, request: GenerationRequest, listener: Listener) -> None:
        task = self._loop.create_task(self._run(request, listener))
        self._tasks[request.id] = task

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.pop(request.id, None)
            if ended.cancelled():
                # Before it had begun.
                for event in self._cut_off(AnswerReader(request.n, prompt_tokens=0)):
                    listener(event)
            elif error := ended.exception():
                log.error("request_crashed", request=request.id, exc_info=error)
                listener(Failed(f"{type(error).__name__}: {error}"))

        task.add_done_callback(done)

    def _end(self, request_id: str) -> None:
        if task := self._tasks.get(request_id):
            task.cancel()

    async def _run(self, request: GenerationRequest, listener: Listener) -> None:
        client = importlib.import_module("llm.engines.openai_client")
        adapter = request.adapter
        name = (adapter.path or adapter.name) if adapter else self._name
        path, body = generation_body(request, name)
        reader = AnswerReader(request.n, prompt_tokens=self._prompt_tokens(request))
        chunks = self._upstream.stream(
            path, body, request_id=request.id, begun=lambda: reader.begun
        )
        try:
            async for chunk in chunks:
                for event in reader.read(chunk):
                    listener(event)
            events = reader.end()
        except client.UpstreamFailed as error:
            events = [error.failed]
        except Garbage as error:
            events = [client.garbage(error)]
        except asyncio.CancelledError:
            events = self._cut_off(reader)
        finally:
            # Closes the connection, so that the server stops where the answer did.
            await chunks.aclose()
        for event in events:
            listener(event)

    def _cut_off(self, reader: AnswerReader) -> list[Event]:
        return [_CLOSED] if self._closing else reader.cancelled()

    async def _embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        client = importlib.import_module("llm.engines.openai_client")
        body = {"model": self._name, "input": list(texts), "encoding_format": "float"}
        try:
            return embeddings(await self._upstream.ask(EMBEDDINGS, body), len(texts))
        except client.UpstreamFailed as error:
            failed = error.failed
        except Garbage as error:
            failed = client.garbage(error)
        raise ApplicationError(
            failed.message, code=failed.code, param=failed.param, status=failed.status
        )

    async def _shut(self) -> None:
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._upstream.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _prompt_tokens(self, request: GenerationRequest) -> int:
        if request.messages is not None:
            return sum(
                self.count(str(message.get("content") or "")) for message in request.messages
            )
        if isinstance(request.prompt, str):
            return self.count(request.prompt)
        return len(request.prompt or ())


def _upstream(name: str, urls: Sequence[str], options: Mapping[str, Any]) -> Upstream:
    """Raises EngineUnavailable naming the option, the variable or the library."""
    variable = str(options.get("api_key") or "")
    key = os.environ.get(variable, "") if variable else ""
    if variable and not key:
        raise EngineUnavailable(
            f"'{name}' needs the key of its server in the environment variable {variable} "
            "(its option api_key), which is not set."
        )
    try:
        client = importlib.import_module("llm.engines.openai_client")
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            f"The engine 'openai' needs {error.name}: pip install -r requirements/llm.txt"
        ) from error
    given = {key: options[key] for key in ("timeout", "patience", "health") if key in options}
    try:
        return client.Upstream(urls, key=key, **given)
    except ValueError as error:
        raise EngineUnavailable(f"{error} as option 'urls' of '{name}'.") from error
