"""Holds the models, takes requests to them, and keeps count of both."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from llm.engines.base import (
    AdapterSource,
    Delta,
    Embeddings,
    Ended,
    Event,
    Failed,
    GenerationRequest,
    LanguageEngine,
    LoadedModel,
    ModelSource,
    Sampling,
)
from llm.serving.metrics import Metrics
from llm.serving.wire import Inbox, Wire
from mlops.engines import EngineSpec
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.serving.places import Places

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Prompts are made into tokens, and grammars compiled, while the loop goes on with the streams.
_THREADS = 4
_STOPPING = Failed(
    "The server was stopped before the answer was complete. Try again.",
    code="server_stopping",
    status=503,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is served: one model, its adapters and, beside it, one that makes embeddings.

    `queue`: requests that are held at once, waiting and under way.
    """

    engine: EngineSpec
    model: ModelSource
    adapters: tuple[AdapterSource, ...] = ()
    embedding: ModelSource | None = None
    queue: int = 64


@dataclass(frozen=True, slots=True)
class Offer:
    """What requests may name: a model, or an adapter on one."""

    name: str
    loaded: LoadedModel
    adapter: AdapterSource | None = None
    embeds_only: bool = False


class Ticket:
    """One request under way; a single coroutine takes its events."""

    def __init__(self, offer: Offer, metrics: Metrics) -> None:
        self.inbox = Inbox()
        self.ended = False
        self._metrics = metrics
        self.offer = offer
        self._last = self._taken = time.perf_counter()
        # Whether anything of the answer has come.
        self.begun = False

    async def take(self) -> list[Event]:
        """What has come, one event at least. Raises ClientDisconnect."""
        events = await self.inbox.take()
        now = time.perf_counter()
        if any(isinstance(event, Delta) for event in events):
            if self.begun:
                self._metrics.token_gap.observe(now - self._last)
            else:
                self.begun = True
                self._metrics.first_token.observe(now - self._taken)
            self._last = now
        last = events[-1]
        if isinstance(last, Ended):
            usage, model = last.usage, self.offer.name
            self._metrics.prompt_tokens.labels(model).inc(usage.prompt)
            self._metrics.cached_tokens.labels(model).inc(usage.cached)
            self._metrics.completion_tokens.labels(model).inc(usage.completion)
        self.ended = isinstance(last, Ended | Failed)
        return events


class Desk:
    """One a server. `load` first; until then, and when it is full, `place` raises Busy."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = int(time.time())
        self.metrics = Metrics()
        self._places = Places(plan.queue, self.metrics)
        self._offers: dict[str, Offer] = {}
        self._tickets: dict[str, Ticket] = {}
        # What a request takes, to tell the refused when to come back.
        self._seconds = 1.0
        self._wire: Wire | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="desk")
        self.metrics.waiting.set_function(lambda: self._count(begun=False))
        self.metrics.running.set_function(lambda: self._count(begun=True))

    def load(self) -> None:
        """Loads everything and has it say something. Raises EngineUnavailable."""
        plan = self.plan
        engine: LanguageEngine = plan.engine.backend_class()(**plan.engine.options)
        model = engine.load(plan.model)
        offers = [Offer(plan.model.name, model)]
        offers += [Offer(adapter.name, model, adapter) for adapter in plan.adapters]
        if plan.embedding is not None:
            loaded = engine.load(plan.embedding)
            offers.append(Offer(plan.embedding.name, loaded, embeds_only=True))
        for offer in offers:
            _warm_up(offer)
        self._offers = {offer.name: offer for offer in offers}
        self.metrics.model.info({"model": plan.model.name, "device": model.device})
        self.metrics.batch.set_function(lambda: model.occupancy.running)
        self.metrics.queue_depth.set_function(lambda: model.occupancy.waiting)
        self.metrics.kv_tokens.set_function(lambda: model.occupancy.cached_tokens)
        self.metrics.memory.set_function(lambda: sum(one.memory_bytes for one in self._loaded()))
        self.metrics.loaded.set(1)
        self._places.open = True

    @property
    def loaded(self) -> bool:
        return self._places.open

    @property
    def cut_off(self) -> int:
        return self._places.cut_off

    @property
    def offers(self) -> Sequence[Offer]:
        return list(self._offers.values())

    def place(self) -> AbstractContextManager[None]:
        """A place for one request. Raises Busy."""
        return self._places.take(self._seconds / max(self._places.held, 1))

    def offer(self, name: str, *, embeds: bool = False) -> Offer:
        """Raises ApplicationError for a name that is not served, or not for this."""
        offer = self._offers.get(name)
        if offer is None:
            raise ApplicationError(
                f"There is no model '{name}' here. Choose one of: {', '.join(self._offers)}.",
                code="model_not_found",
                param="model",
                status=404,
            )
        if offer.embeds_only and not embeds:
            raise ApplicationError(
                f"'{name}' makes embeddings and no text. Ask it at /v1/embeddings.",
                code="wrong_task",
                param="model",
            )
        return offer

    @asynccontextmanager
    async def ticket(self, offer: Offer, request: GenerationRequest) -> AsyncIterator[Ticket]:
        """The request under way; one that is left before its end is cancelled.

        Raises ApplicationError for what the engine refuses at once.
        """
        ticket = self._tickets[request.id] = Ticket(offer, self.metrics)
        if self._wire is None:
            self._wire = Wire(asyncio.get_running_loop())
        started = time.perf_counter()
        try:
            listener = self._wire.listener(ticket.inbox)
            await self.apart(offer.loaded.submit, request, listener)
            yield ticket
        finally:
            del self._tickets[request.id]
            if not ticket.ended:
                offer.loaded.cancel(request.id)
            self._seconds += 0.1 * (time.perf_counter() - started - self._seconds)

    async def embed(self, offer: Offer, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Raises ApplicationError where the model makes none, or a text is too long."""
        found = await self.apart(offer.loaded.embed, texts)
        self.metrics.prompt_tokens.labels(offer.name).inc(found.tokens)
        return found

    def _count(self, *, begun: bool) -> int:
        return sum(ticket.begun == begun for ticket in list(self._tickets.values()))

    async def apart(self, work: Callable[..., T], *arguments: object) -> T:
        """Does what takes long in a thread beside the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments))

    def expire(self) -> None:
        for request_id, ticket in self._tickets.items():
            self._places.cut_off += 1
            ticket.inbox.put(_STOPPING)
            ticket.offer.loaded.cancel(request_id)

    def close(self) -> None:
        """Frees the models; not those that hang, with which the process is to end."""
        if self._wire is not None:
            self._wire.cut()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not self.cut_off:
            for loaded in self._loaded():
                loaded.close()

    def _loaded(self) -> list[LoadedModel]:
        """Each model once: adapters share theirs."""
        return [offer.loaded for offer in self.offers if offer.adapter is None]


def _warm_up(offer: Offer) -> None:
    """The first request of a model takes longer than all others, and shows what is broken."""
    if offer.embeds_only:
        offer.loaded.embed(["Ready?"])
        return
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    request = GenerationRequest(
        id=f"warm-up-{offer.name}",
        prompt="Ready?",
        adapter=offer.adapter,
        sampling=Sampling(max_tokens=2, temperature=0.0),
    )
    try:
        offer.loaded.submit(request, events.put)
        while not isinstance(event := events.get(), Ended | Failed):
            pass
    except ApplicationError as error:
        raise EngineUnavailable(f"'{offer.name}' can't be used: {error.message}") from error
    if isinstance(event, Failed):
        raise EngineUnavailable(f"'{offer.name}' can't be used: {event.message}")
