"""What every API view shares: the form of an error, and pages of a list."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.views import exception_handler, set_rollback

from mlops.exceptions import ApplicationError

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(
    *, message: str, code: str, status: int, param: str | None = None
) -> dict[str, dict[str, Any]]:
    """`{"error": {message, type, param, code}}`, as the OpenAI API has it."""
    kind = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: one form for every error."""
    if isinstance(error, ApplicationError):
        set_rollback()
        body = error_body(
            message=error.message, code=error.code, status=error.status, param=error.param
        )
        return Response(body, status=error.status)
    response = exception_handler(error, context)
    if response is None:
        return None
    message, code, param = _describe(error)
    response.data = error_body(message=message, code=code, status=response.status_code, param=param)
    return response


def _describe(error: Exception) -> tuple[str, str, str | None]:
    if isinstance(error, exceptions.ValidationError):
        param, detail = _first_detail(error.detail)
        message = f"{param}: {detail}" if param else str(detail)
        return message, getattr(detail, "code", "invalid"), param
    if isinstance(error, Http404):
        return "There is nothing here, or it isn't yours.", "not_found", None
    if isinstance(error, PermissionDenied):
        return "You may not do this.", "permission_denied", None
    if isinstance(error, exceptions.APIException):
        codes = error.get_codes()
        return str(error.detail), codes if isinstance(codes, str) else "invalid", None
    return str(error), "invalid", None


def _first_detail(detail: Any, param: str | None = None) -> tuple[str | None, Any]:
    """The first complaint of a nest of them, with the field that it is about."""
    while isinstance(detail, dict | list):
        if isinstance(detail, dict):
            name, detail = next(iter(detail.items()))
            # Numbers are places in a list, which is what has the name.
            if isinstance(name, str):
                param = None if name == "non_field_errors" else name
        else:
            detail = detail[0]
    return param, detail


class Pagination(PageNumberPagination):
    page_size = 25
    page_size_query_param = "page_size"
    max_page_size = 200
