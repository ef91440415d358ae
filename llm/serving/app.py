"""`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`; health and metrics."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from llm.engines.base import GenerationRequest
from llm.openai.answers import ChatAnswer, CompletionAnswer, embeddings_json, packed_vector
from llm.openai.generation import chat_generation, completion_generations
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest, InvalidRequest
from llm.serving.answers import Answering, EngineFailed, EventStream, Told, whole
from llm.serving.desk import Desk, Offer
from mlops.exceptions import ApplicationError
from mlops.serving.access import Endpoint, guarded
from mlops.serving.answers import Nothing, fault, figures, health, refusal
from mlops.uploads import BodyLimit

log = structlog.get_logger(__name__)

# A body slower than this gives its place to another.
BODY_SECONDS = 60.0


def make_app(desk: Desk, *, token: str) -> ASGIApp:
    """The server as an ASGI application; loading the desk is the caller's part.

    `token` is asked for everywhere but at /health, unless it is empty.
    """

    def posted(path: str, endpoint: Endpoint) -> Route:
        return Route(path, _counted(guarded(endpoint, token)), methods=["POST"])

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", guarded(figures, token)),
            Route("/v1/models", guarded(_models, token)),
            Route("/v1/models/{name:path}", guarded(_model, token)),
            posted("/v1/chat/completions", _chat),
            posted("/v1/completions", _completions),
            posted("/v1/embeddings", _embeddings),
        ],
        exception_handlers={
            HTTPException: _refused,
            ApplicationError: _refused,
            Exception: _fault,
        },
    )
    app.state.desk = desk
    return BodyLimit(app)


# -- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """A checked request, and what makes OpenAI's objects of its events."""

    offer: Offer
    requests: list[GenerationRequest]
    chunks: Callable[[Told], Iterable[dict[str, Any]]]
    whole: Callable[[list[Told]], dict[str, Any]]
    streamed: bool


async def _chat(request: Request) -> Response:
    return await _generated(request, _asked_chat)


async def _completions(request: Request) -> Response:
    return await _generated(request, _asked_completion)


def _asked_chat(desk: Desk, data: Any) -> _Asked:
    body = ChatRequest.parse(data)
    offer = desk.offer(body.model)
    key = uuid.uuid4().hex
    answer = ChatAnswer(
        body, answer_id=f"chatcmpl-{key}", created=int(time.time()), model=body.model
    )
    answer.begin(offer.loaded.tool_format)
    generation = chat_generation(
        body, request_id=key, tool_format=offer.loaded.tool_format, adapter=offer.adapter
    )
    return _Asked(
        offer=offer,
        requests=[generation],
        chunks=lambda told: answer.chunks(told[1]),
        whole=lambda told: answer.whole(event for _, event in told),
        streamed=bool(body.stream),
    )


def _asked_completion(desk: Desk, data: Any) -> _Asked:
    body = CompletionRequest.parse(data)
    offer = desk.offer(body.model)
    key, n = uuid.uuid4().hex, body.n or 1
    answer = CompletionAnswer(
        body, answer_id=f"cmpl-{key}", created=int(time.time()), model=body.model
    )
    return _Asked(
        offer=offer,
        requests=completion_generations(body, request_id=key, adapter=offer.adapter),
        chunks=lambda told: answer.chunks(told[1], told[0] * n),
        whole=lambda told: answer.whole((place * n, event) for place, event in told),
        streamed=bool(body.stream),
    )


async def _generated(request: Request, ask: Callable[[Desk, Any], _Asked]) -> Response:
    desk: Desk = request.app.state.desk
    started = time.perf_counter()
    with ExitStack() as held:
        held.enter_context(desk.place())
        asked = ask(desk, await _json(request))
        answering = Answering(desk, asked.offer, asked.requests)
        if not asked.streamed:
            response = await whole(request, answering, asked.whole)
            desk.metrics.seconds.observe(time.perf_counter() - started)
            return response
        place = ExitStack()

        def ended(status: int) -> None:
            place.close()
            _count(request, status)
            desk.metrics.seconds.observe(time.perf_counter() - started)

        stream = EventStream(answering, asked.chunks, ended=ended)
        await stream.begin(request)
        # From now on the stream holds the place.
        place = held.pop_all()
        return stream


async def _embeddings(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    with desk.place():
        body = EmbeddingRequest.parse(await _json(request))
        made = await desk.embed(desk.offer(body.model, embeds=True), body.texts)
        vectors = [packed_vector(vector) for vector in made.vectors]
        return JSONResponse(embeddings_json(body, vectors, tokens=made.tokens, model=body.model))


async def _models(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    data = [_described(desk, offer) for offer in desk.offers]
    return JSONResponse({"object": "list", "data": data})


async def _model(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    return JSONResponse(_described(desk, desk.offer(request.path_params["name"], embeds=True)))


def _described(desk: Desk, offer: Offer) -> dict[str, Any]:
    """As vLLM has it: adapters name their base as `parent`."""
    adapter = offer.adapter
    return {
        "id": offer.name,
        "object": "model",
        "created": desk.started,
        "owned_by": "serve_llm",
        "root": adapter.path if adapter else offer.loaded.source.path,
        "parent": offer.loaded.source.name if adapter else None,
        "max_model_len": offer.loaded.context_length,
    }


async def _json(request: Request) -> Any:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = await request.body()
    except TimeoutError:
        raise ApplicationError(
            f"The body took more than {BODY_SECONDS:.0f} s.", code="slow_upload", status=408
        ) from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"The body is no JSON: {error}.", param=None, code="invalid_json"
        ) from error


# -- refusals ---------------------------------------------------------------------------------


def _counted(endpoint: Endpoint) -> Endpoint:
    """Makes an answer of what is refused, and counts all answers."""

    async def counted(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except ClientDisconnect:
            response = Nothing()
        except EngineFailed as error:
            response = refusal(error, retry_after=error.retry_after)
        except (ApplicationError, HTTPException) as error:
            response = refusal(error)
        if not isinstance(response, EventStream):
            _count(request, response.status_code)
        return response

    return counted


def _count(request: Request, status: int) -> None:
    request.app.state.desk.metrics.requests.labels(request.url.path, status).inc()


async def _refused(_: Request, error: Exception) -> Response:
    """What is raised where nothing is counted: no such address or method, no token."""
    assert isinstance(error, ApplicationError | HTTPException)
    return refusal(error)


async def _fault(request: Request, _: Exception) -> Response:
    _count(request, 500)
    return refusal(fault())
