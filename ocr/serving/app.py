"""`POST /predict`, `GET /health`, `GET /metrics`."""

from __future__ import annotations

import asyncio
import threading
import time

import structlog
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.serving.access import Endpoint, guarded
from mlops.serving.answers import Nothing, fault, figures, health, refusal, until_gone
from mlops.uploads import BodyLimit
from ocr.serving.answers import answer, question
from ocr.serving.desk import Desk

log = structlog.get_logger(__name__)

# An upload slower than this gives its place to another.
BODY_SECONDS = 60.0


def make_app(desk: Desk, *, token: str) -> ASGIApp:
    """The server as an ASGI application; loading the desk is the caller's part.

    `token` is asked for everywhere but at /health, unless it is empty.
    """
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", guarded(figures, token)),
            Route("/predict", _counted(guarded(_predict, token)), methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refused,
            ApplicationError: _refused,
            Exception: _fault,
        },
    )
    app.state.desk = desk
    return BodyLimit(app)


async def _predict(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    started = time.perf_counter()
    with desk.place():
        form = await _form(request)
        abandoned = threading.Event()
        watch = asyncio.create_task(_watch(request, abandoned))
        try:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            asked = question(fields, desk.options.defaults)
            outcomes = await desk.read(_image(form).file, asked, abandoned)
        finally:
            watch.cancel()
            await form.close()
    if abandoned.is_set():
        raise ClientDisconnect
    body = answer(outcomes, asked.min_confidence)
    seconds = time.perf_counter() - started
    desk.metrics.seconds.observe(seconds)
    log.info("predicted", status=body["status"], pages=len(outcomes), seconds=round(seconds, 3))
    return JSONResponse(body, status_code=200 if body["status"] == "succeeded" else 422)


async def _form(request: Request) -> FormData:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.form(max_files=1, max_fields=20, max_part_size=4096)
    except TimeoutError:
        raise ApplicationError(
            f"The upload took more than {BODY_SECONDS:.0f} s.", code="slow_upload", status=408
        ) from None


def _image(form: FormData) -> UploadFile:
    image = form.get("image")
    if isinstance(image, UploadFile):
        return image
    raise ApplicationError(
        "Send the document as the file 'image' of a multipart form.",
        code="required",
        param="image",
    )


async def _watch(request: Request, abandoned: threading.Event) -> None:
    await until_gone(request)
    abandoned.set()


def _counted(endpoint: Endpoint) -> Endpoint:
    """Makes an answer of what is refused, and counts all answers."""

    async def counted(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except ClientDisconnect:
            response = Nothing()
        except (ApplicationError, EngineUnavailable, HTTPException) as error:
            response = refusal(error, status="failed")
        request.app.state.desk.metrics.requests.labels(status=response.status_code).inc()
        return response

    return counted


async def _refused(_: Request, error: Exception) -> Response:
    """What is raised outside of /predict: no such address or method, no token."""
    assert isinstance(error, ApplicationError | HTTPException)
    return refusal(error, status="failed")


async def _fault(request: Request, _: Exception) -> Response:
    request.app.state.desk.metrics.requests.labels(status=500).inc()
    return refusal(fault(), status="failed")
