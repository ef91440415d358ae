"""Answers that have nothing of a model in them: health, metrics, refusals."""

from __future__ import annotations

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mlops.api import error_body
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.serving import metrics
from mlops.serving.places import Busy

Refusal = ApplicationError | EngineUnavailable | HTTPException


class Nothing(Response):
    """For a client that has gone: nothing is sent."""

    status_code = 499

    def __init__(self) -> None:
        """Renders nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends nothing."""


async def health(request: Request) -> Response:
    """200 once the model can be used; 503 while it is being loaded."""
    loaded = request.app.state.desk.loaded
    body = {"status": "ok" if loaded else "loading", "model_loaded": loaded}
    return JSONResponse(body, status_code=200 if loaded else 503)


async def figures(request: Request) -> Response:
    """The server's metrics."""
    return Response(request.app.state.desk.metrics.text(), media_type=metrics.CONTENT_TYPE)


def refusal(error: Refusal, *, retry_after: float | None = None, **beside: Any) -> Response:
    """The platform's form of an error; `beside` are fields that stand next to it."""
    headers, param = {}, None
    match error:
        case HTTPException():
            status, code, message = error.status_code, "invalid", error.detail
        case EngineUnavailable():
            status, code, message = 500, error.code, error.message
        case ApplicationError():
            status, code, message, param = error.status, error.code, error.message, error.param
    if isinstance(error, Busy):
        retry_after = error.retry_after
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(message=message, code=code, status=status, param=param)
    return JSONResponse({**beside, **body}, status_code=status, headers=headers)


def fault() -> ApplicationError:
    """For what nobody foresaw; whoever runs the application logs the traceback."""
    message = "The server met an error of its own; its log says which."
    return ApplicationError(message, code="server_error", status=500)


async def until_gone(request: Request) -> None:
    """Returns once the client has hung up: after the body, that is the only message."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
