"""Requests and how long they took, by route: middleware of every web process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutinefunction

from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from mlops.metrics.counting import Counter, Histogram

REQUESTS = Counter(
    "mlops_http_requests",
    "Answers of the web processes, by route and status; 499: the client hung up. urls: all (the "
    "console and the APIs) or user (the APIs alone).",
    ("urls", "method", "route", "status"),
)
SECONDS = Histogram(
    "mlops_http_request_seconds",
    "From a request to the beginning of its answer, by route.",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ("urls", "method", "route"),
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Of what no address fits, static files among them: a path would be a label anybody can invent.
NO_ROUTE = "(none)"
HUNG_UP = 499


@sync_and_async_middleware
def count_requests(get_response: Callable) -> Callable:
    """Stands outermost, so that it sees what is answered."""
    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            started = time.perf_counter()
            try:
                response = await get_response(request)
            except asyncio.CancelledError:
                _count(request, HUNG_UP, started)
                raise
            _count(request, response.status_code, started)
            return response

        return later

    def now(request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        response = get_response(request)
        _count(request, response.status_code, started)
        return response

    return now


def _count(request: HttpRequest, status: int, started: float) -> None:
    match = request.resolver_match
    route = _template(match.route) if match is not None else NO_ROUTE
    method = request.method if request.method in METHODS else "OTHER"
    REQUESTS.add(settings.URLS, method, route, str(status))
    SECONDS.observe(settings.URLS, method, route, amount=time.perf_counter() - started)


@lru_cache(maxsize=2048)
def _template(route: str) -> str:
    return simplify_regex(route)
