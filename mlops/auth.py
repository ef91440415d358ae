"""API keys as bearer tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

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
