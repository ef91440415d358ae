"""What the views of OpenAI's resources share: errors not retried in vain, and lists."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db.models import Model, Q, QuerySet
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from llm.limits import LimitReached
from mlops.api import error_response
from mlops.api.events import AnyMediaType
from mlops.exceptions import ApplicationError


class OpenAIView(APIView):
    """Errors in OpenAI's form; a 409 says that trying again is useless, which clients would do.

    `Accept` is not looked at, as OpenAI's server doesn't: its client asks for content with a media
    type of its own.
    """

    content_negotiation_class = AnyMediaType

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return _error_response


def _error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    response = error_response(error, context)
    if response is None:
        return None
    if response.status_code == status.HTTP_409_CONFLICT:
        response.headers["x-should-retry"] = "false"
    if isinstance(error, LimitReached):
        response.headers["Retry-After"] = str(round(error.retry_after))
        if not error.transient:
            response.headers["x-should-retry"] = "false"
    return response


def not_found(what: str, name: str, *, param: str) -> ApplicationError:
    return ApplicationError(f"No such {what}: {name}", code="not_found", param=param, status=404)


def seconds(moment: datetime | None) -> int | None:
    """Unix seconds, as all times of this API are."""
    return None if moment is None else int(moment.timestamp())


def listed(
    request: Request,
    rows: QuerySet[Any],
    shown: Callable[[Any], dict[str, Any]],
    *,
    find: Callable[[str], Model],
    most: int,
    default: int,
) -> Response:
    """A page of a list: `limit` rows that come after the object `after`, newest first.

    `order=asc` turns it round. `find` gives the row of an id, or raises not found.
    """
    given = request.query_params
    limit = _limit(given.get("limit"), most, default)
    order = given.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise ApplicationError("order: asc or desc.", code="invalid_value", param="order")
    if after := given.get("after"):
        last = find(after)
        beyond = "gt" if order == "asc" else "lt"
        rows = rows.filter(
            Q(**{f"created_at__{beyond}": last.created_at})
            | Q(created_at=last.created_at, **{f"pk__{beyond}": last.pk})
        )
    sign = "" if order == "asc" else "-"
    page = list(rows.order_by(f"{sign}created_at", f"{sign}pk")[: limit + 1])
    data = [shown(row) for row in page[:limit]]
    return Response(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(page) > limit,
        }
    )


def _limit(text: str | None, most: int, default: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ApplicationError(
            f"limit: a whole number from 1 to {most}.", code="invalid_value", param="limit"
        )
    return int(text)
