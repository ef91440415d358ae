"""`GET …/events`: a job's progress as server-sent events, until its end.

Events `progress` and `ended` with the job's state as JSON; a comment now and then keeps the
connection open through proxies. A client that comes back says by `Last-Event-ID` what it knows.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlops.models import Job
from mlops.request_thread import request_thread_end
from mlops.watch import JobState, watch

HEARTBEAT_SECONDS = 15.0
# How long a browser waits before it comes back after a cut.
RETRY_MS = 2000


class AnyMediaType(BaseContentNegotiation):
    """`Accept: text/event-stream` is what browsers send, and what is answered; errors are JSON."""

    def select_parser(self, request: Request, parsers: list) -> object:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: list, format_suffix: str | None = None):
        return renderers[0], renderers[0].media_type


class FollowView(APIView):
    """Whether the caller may see the job; the events themselves are sent outside of it."""

    content_negotiation_class = AnyMediaType

    @extend_schema(
        operation_id="job_events", responses={(200, "text/event-stream"): OpenApiTypes.STR}
    )
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        """Events `progress` and `ended`, each with `status`, `progress` and `error`."""
        get_object_or_404(Job.objects.visible_to(request.user), pk=pk)
        return Response({"job": pk})


@csrf_exempt
async def job_events(request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
    """Any kind of job. 204, which tells a browser to stay away, if its end is known already."""
    allowed = await sync_to_async(FollowView.as_view())(request, pk=pk)
    if allowed.status_code != 200 or request.method != "GET":
        await sync_to_async(allowed.render)()
        return allowed
    known = request.headers.get("Last-Event-ID", "")
    if known.startswith("ended"):
        return HttpResponse(status=204)
    response = StreamingHttpResponse(_events(pk, known), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _events(pk: uuid.UUID, known: str) -> AsyncIterator[str]:
    request_thread_end()
    yield f"retry: {RETRY_MS}\n\n"
    states = watch().states(pk)
    upcoming = asyncio.ensure_future(anext(states, None))
    try:
        while True:
            done, _pending = await asyncio.wait({upcoming}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield ": still here\n\n"
                continue
            state = upcoming.result()
            if state is None:
                yield 'id: ended:deleted\nevent: ended\ndata: {"status":"deleted"}\n\n'
                return
            name = event_id(state)
            if name != known:
                yield f"id: {name}\nevent: {_kind(state)}\ndata: {_data(pk, state)}\n\n"
            if state.finished:
                return
            upcoming = asyncio.ensure_future(anext(states, None))
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await states.aclose()


def event_id(state: JobState) -> str:
    """Names the state: a client that comes back with it has missed nothing."""
    return f"{_kind(state)}:{state.status}:{state.done}:{state.total}"


def _kind(state: JobState) -> str:
    return "ended" if state.finished else "progress"


def _data(pk: uuid.UUID, state: JobState) -> str:
    error = {"code": state.error_code, "message": state.error} if state.error else None
    body = {
        "job": str(pk),
        "status": state.status,
        "progress": {"done": state.done, "total": state.total},
        "cancel_requested": state.cancel_requested,
        "error": error,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
