"""API keys as bearer tokens, and what a policy server says of a call."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from mlops import policy
from mlops.models import ApiKey, User

LAST_USED_STEP = timedelta(minutes=1)


class ApiKeyAuthentication(TokenAuthentication):
    """`Authorization: Bearer mk-…`; revoked and expired keys are refused."""

    def _cleanup_token(self, auth_token: ApiKey) -> bool:
        """Whether the key has expired. knox's own also reads and deletes the user's other keys."""
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()

    def authenticate_credentials(self, token: bytes) -> tuple[User, ApiKey]:
        # knox would fail on decoding it.
        if not token.isascii():
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)

    def validate_user(self, auth_token: ApiKey) -> tuple[User, ApiKey]:
        if auth_token.revoked_at is not None:
            raise AuthenticationFailed("This API key has been revoked.")
        found = super().validate_user(auth_token)
        now = timezone.now()
        # Written once a minute at most: a request should not cost a write.
        if auth_token.last_used_at is None or now - auth_token.last_used_at > LAST_USED_STEP:
            ApiKey.objects.filter(pk=auth_token.pk).update(last_used_at=now)
        return found


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "mlops.auth.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class PolicyAllows(BasePermission):
    """With CERBOS_URL each call of the API is asked for: the resource `api`, the call's name as its
    action (`document:create`, `chat:post`). Superusers may call everything.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Raises PermissionDenied (403) with the call's name, PolicyUnavailable (503)."""
        user = request.user
        if not settings.CERBOS_URL or not user.is_authenticated or user.is_superuser:
            return True
        name = call_name(request.method, view)
        asked = policy.Question("api", [name], {"method": request.method, "path": request.path})
        key = request.auth.name if isinstance(request.auth, ApiKey) else ""
        if ("api", name) not in policy.allowed(user, [asked], key=key):
            raise PermissionDenied(f"A policy forbids you this call, {name}.", code="policy_denied")
        return True


def call_name(method: str, view: Any) -> str:
    """What policies call it: a view set's name and action, or the view's name and the method."""
    named = type(view).__name__.removesuffix("View")
    name = getattr(view, "basename", None) or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", named).lower()
    action = getattr(view, "action", None) or {"HEAD": "get"}.get(method, method.lower())
    return f"{name}:{action}"
