"""`GET /metrics`, for whoever sends METRICS_TOKEN, and for people who run the platform."""

from __future__ import annotations

import hmac
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from mlops.api.events import AnyMediaType
from mlops.auth import ApiKeyAuthentication
from mlops.metrics import page

RIGHT = "mlops.view_queuepulse"
TOKEN = "metrics token"


class MetricsAuthentication(ApiKeyAuthentication):
    """The token stands for nobody and opens this page alone; else an API key is looked for."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        given = request.META.get("HTTP_AUTHORIZATION", "").encode("utf-8", "surrogateescape")
        wanted = f"Bearer {settings.METRICS_TOKEN}".encode()
        if settings.METRICS_TOKEN and hmac.compare_digest(given, wanted):
            return AnonymousUser(), TOKEN
        try:
            return super().authenticate(request)
        except AuthenticationFailed as error:
            raise AuthenticationFailed(f"{error.detail} {advice()}") from error


def advice() -> str:
    unset = "" if settings.METRICS_TOKEN else ", which has to be set first (make env),"
    return f"Send METRICS_TOKEN{unset} as a bearer token, or the API key of an operator."


class MayLook(BasePermission):
    """Raises NotAuthenticated (401) or PermissionDenied (403), with what to do."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth == TOKEN:
            return True
        if not request.user.is_authenticated:
            raise NotAuthenticated(advice())
        if not request.user.has_perm(RIGHT):
            raise PermissionDenied(
                f"This takes the right {RIGHT}, which the groups operator and admin have."
            )
        return True


class MetricsView(APIView):
    authentication_classes = [MetricsAuthentication, SessionAuthentication]
    permission_classes = [MayLook]
    content_negotiation_class = AnyMediaType

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Prometheus' text format."""
        response = HttpResponse(page.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
        response["Cache-Control"] = "no-store"
        return response
