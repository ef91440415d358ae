"""What the generating endpoints share: one thread hop that checks and sends, then async alone."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog
from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from llm import limits
from llm.api.openai_view import OpenAIView
from llm.api.replies import Ticket, abandon, respond
from llm.api.shapes import Shape
from llm.limits import Caller, LimitReached
from llm.models import GenerationJob, LanguageModel
from llm.relay.inbox import inbox
from llm.selectors import model_resolve
from llm.services.generations import generation_submit
from mlops.exceptions import ApplicationError
from mlops.models import ApiKey

# Shared by all requests: one thread each would be as many database connections at once.
_threads = ThreadPoolExecutor(8, thread_name_prefix="accept")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the answer is waited for: the request's key, and the process's reply stream."""

    key: uuid.UUID
    stream: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body that was found to be in order."""

    model: str
    streamed: bool
    shape: Shape


class AnyMediaType(BaseContentNegotiation):
    """Whatever `Accept` says, the answer is JSON, or events where the body asks for them."""

    def select_parser(self, request: Request, parsers: list) -> object:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: list, format_suffix: str | None = None):
        return renderers[0], renderers[0].media_type


class GenerateView(OpenAIView):
    """Checks a request and sends it to a worker; the answer is given outside of it."""

    content_negotiation_class = AnyMediaType
    parser_classes = [JSONParser]
    endpoint: ClassVar[str]

    def parse(self, data: Any, key: uuid.UUID) -> Parsed:
        """Raises ApplicationError naming the field at fault."""
        raise NotImplementedError

    def submit(self, request: Request, place: Place, body: Any = None) -> Response:
        """`body`: what the model is asked where that isn't what came in."""
        body = request.data if body is None else body
        caller = Caller(request.user, request.auth if isinstance(request.auth, ApiKey) else None)
        parsed = self.parse(body, place.key)
        headers = limits.admit(caller)
        model = model_resolve(parsed.model)
        self._check_task(model)
        generation_submit(
            endpoint=self.endpoint,
            body=body,
            asked_model=parsed.model,
            model=model,
            caller=caller,
            streamed=parsed.streamed,
            reply_to=place.stream,
            pk=place.key,
        )
        headers |= {"x-request-id": _request_id(), "x-model": model.name}
        return Response(Ticket(place.key, caller, parsed.shape, parsed.streamed, headers))

    def handle_exception(self, error: Exception) -> Response:
        response = super().handle_exception(error)
        if isinstance(error, LimitReached):
            response.headers["Retry-After"] = str(round(error.retry_after))
            if not error.transient:
                response.headers["x-should-retry"] = "false"
        response.headers["x-request-id"] = _request_id()
        return response

    def _check_task(self, model: LanguageModel) -> None:
        """Of the base: an adapter does what its base does."""
        embeds = model.root.task == LanguageModel.Task.EMBED
        if embeds != (self.endpoint == GenerationJob.Endpoint.EMBEDDING):
            does = "embeddings" if embeds else "text"
            raise ApplicationError(
                f"The model '{model.name}' makes {does}. GET /v1/models lists the others.",
                code="model_not_supported",
                param="model",
            )


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))[:100]


async def answered(
    request: HttpRequest, view: type[GenerateView], **given: Any
) -> HttpResponseBase:
    """The way of one request: checked and sent in a thread, then waited for without one.

    `given`: what the view's handler takes beside the request and the place.
    """
    mail = inbox()
    place = Place(uuid.uuid4(), mail.stream)
    # Before the request is sent: its first event may be quicker than this line's successors.
    box = mail.open(str(place.key))
    accept = sync_to_async(_accept, thread_sensitive=False, executor=_threads)
    accepting = asyncio.ensure_future(accept(request, view, place, given))
    try:
        accepted = await asyncio.shield(accepting)
    except asyncio.CancelledError:
        # The client has gone, and the thread goes on: it may just have sent the request.
        accepting.add_done_callback(lambda _done: abandon(place.key, mail, box))
        raise
    except BaseException:
        mail.close(box)
        raise
    if not isinstance(accepted.data, Ticket):
        mail.close(box)
        return accepted
    box.watch(streamed=accepted.data.streamed)
    return await respond(accepted.data, mail, box)


def _accept(
    request: HttpRequest, view: type[GenerateView], place: Place, given: dict[str, Any]
) -> Response:
    try:
        response = view.as_view()(request, place=place, **given)
        if not isinstance(response.data, Ticket):
            response.render()
        return response
    finally:
        # The answer may take minutes, in which this thread would keep its connection.
        close_old_connections()
