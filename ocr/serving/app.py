"""`POST /predict`, `GET /health`, `GET /metrics`."""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops.api import error_body
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.uploads import BodyLimit
from ocr.serving import metrics
from ocr.serving.answers import answer, question
from ocr.serving.desk import Busy, Desk

log = structlog.get_logger(__name__)

# An upload slower than this gives its place to another.
BODY_SECONDS = 60.0

Endpoint = Callable[[Request], Awaitable[Response]]


class _Nothing(Response):
    """For a client that has gone: nothing is sent."""

    status_code = 499

    def __init__(self) -> None:
        """Renders nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends nothing."""


def make_app(desk: Desk, *, token: str) -> ASGIApp:
    """The server as an ASGI application; loading the desk is the caller's part.

    `token` is asked for everywhere but at /health, unless it is empty.
    """
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/metrics", _guarded(_metrics, token)),
            Route("/predict", _counted(_guarded(_predict, token)), methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refused,
            ApplicationError: _refused,
            Exception: _fault,
        },
    )
    app.state.desk = desk
    return BodyLimit(app)


async def _health(request: Request) -> Response:
    """200 once pages can be read; 503 while the model is being loaded."""
    loaded = request.app.state.desk.loaded
    body = {"status": "ok" if loaded else "loading", "model_loaded": loaded}
    return JSONResponse(body, status_code=200 if loaded else 503)


async def _metrics(request: Request) -> Response:
    return Response(request.app.state.desk.metrics.text(), media_type=metrics.CONTENT_TYPE)


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
    """After the body, the only message is that the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    abandoned.set()


def _guarded(endpoint: Endpoint, token: str) -> Endpoint:
    wanted = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1")
        if token and not hmac.compare_digest(given, wanted):
            raise ApplicationError(
                "Send the server's token (MODEL_SERVER_TOKEN) as a bearer token.",
                code="not_authenticated",
                status=401,
            )
        return await endpoint(request)

    return guarded


def _counted(endpoint: Endpoint) -> Endpoint:
    """Makes an answer of what is refused, and counts all answers."""

    async def counted(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except ClientDisconnect:
            response = _Nothing()
        except (ApplicationError, EngineUnavailable, HTTPException) as error:
            response = _refusal(error)
        request.app.state.desk.metrics.requests.labels(status=response.status_code).inc()
        return response

    return counted


def _refusal(error: ApplicationError | EngineUnavailable | HTTPException) -> Response:
    """The platform's form of an error, with `status` for those who look at nothing else."""
    headers, param = {}, None
    match error:
        case HTTPException():
            status, code, message = error.status_code, "invalid", error.detail
        case EngineUnavailable():
            status, code, message = 500, error.code, error.message
        case ApplicationError():
            status, code, message, param = error.status, error.code, error.message, error.param
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(message=message, code=code, status=status, param=param)
    return JSONResponse({"status": "failed", **body}, status_code=status, headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    """What is raised outside of /predict: no such address or method, no token."""
    assert isinstance(error, ApplicationError | HTTPException)
    return _refusal(error)


async def _fault(request: Request, _: Exception) -> Response:
    """The traceback is logged by whoever runs the application."""
    request.app.state.desk.metrics.requests.labels(status=500).inc()
    message = "The server met an error of its own; its log says which."
    return _refusal(ApplicationError(message, code="server_error", status=500))
