"""Who may do what: the groups in the database say it or, with CERBOS_URL, a Cerbos server.

Django asks for every permission here (`has_perm`: the console, and whose rows somebody sees); the
API asks `mlops.auth.PolicyAllows` before each call. Nothing is kept from one request to the next:
what the server has read of a changed policy counts. One that does not answer allows nothing: 503.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from mlops.exceptions import ApplicationError
from mlops.models import User

# So many actions of a resource does Cerbos take at once unless it is told otherwise.
ACTIONS_AT_ONCE = 50
# A call of the API needs one or two permissions, a page of the console most of them: what goes
# beyond is asked for at once, with all the others.
FEW = 2
# Cerbos wants a role of everybody: this is the one of who is in no group.
NO_ROLE = "none"
logger = structlog.get_logger(__name__)


class PolicyUnavailable(ApplicationError):
    """The Cerbos server does not answer, or not as it should; its log and ours say why."""

    code = "policy_unavailable"
    status = 503

    def __init__(self) -> None:
        super().__init__("Who may do what can't be asked at the moment. Try again in a minute.")


@dataclass(frozen=True, slots=True)
class Question:
    """May the user do these to a resource? `attr` is what policies may look at."""

    kind: str
    actions: list[str]
    attr: Mapping[str, str] = field(default_factory=dict)


def allowed(user: User, questions: Iterable[Question], **attr: str) -> set[tuple[str, str]]:
    """(kind, action) of what Cerbos allows; `attr`, and the user's own, are the principal's.

    Superusers are asked for as everybody is; who must not depend on the server is to be answered
    before. Raises PolicyUnavailable.
    """
    roles = sorted(user.groups.values_list("name", flat=True)) or [NO_ROLE]
    body = {
        "principal": {
            "id": str(user.pk),
            "roles": roles,
            "attr": {"username": user.username, "staff": user.is_staff, **attr},
        },
        "resources": [
            {
                "resource": {"kind": asked.kind, "id": str(number), "attr": dict(asked.attr)},
                "actions": asked.actions,
            }
            for number, asked in enumerate(questions)
        ],
    }
    try:
        return {
            (result["resource"]["kind"], action)
            for result in _call("POST", "/api/check/resources", body)["results"]
            for action, effect in result["actions"].items()
            if effect == "EFFECT_ALLOW"
        }
    except (KeyError, TypeError, AttributeError) as error:
        logger.warning("policy_unavailable", error=f"an unknown form: {error!r}")
        raise PolicyUnavailable from error


def health() -> None:
    """Raises PolicyUnavailable unless the server has read its policies and serves."""
    if _call("GET", "/_cerbos/health").get("status") != "SERVING":
        raise PolicyUnavailable


def _call(method: str, path: str, body: Any = None) -> Any:
    import urllib3

    try:
        answer = _connections().request(
            method,
            settings.CERBOS_URL.rstrip("/") + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        found = answer.json() if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        logger.warning("policy_unavailable", error=str(error))
        raise PolicyUnavailable from error
    if not isinstance(found, dict):
        text = answer.data[:300].decode(errors="replace")
        logger.warning("policy_unavailable", status=answer.status, error=text)
        raise PolicyUnavailable
    return found


@cache
def _connections() -> Any:
    """A pool for all threads. A question changes nothing: one that was cut off is asked again."""
    import urllib3

    again = urllib3.Retry(total=1, allowed_methods=None, redirect=False)
    return urllib3.PoolManager(
        maxsize=10, retries=again, timeout=urllib3.Timeout(settings.CERBOS_TIMEOUT_SECONDS)
    )


@cache
def _permissions() -> dict[tuple[str, str], str]:
    """(kind, action) -> Django's permission: ("ocr", "document:view") -> ocr.view_document.

    The kind is the app; a permission that is no model's own action keeps its name (review_any).
    """
    found = {}
    for model in apps.get_models():
        app, name = model._meta.app_label, model._meta.model_name
        for action in model._meta.default_permissions:
            found[app, f"{name}:{action}"] = f"{app}.{action}_{name}"
        for code, _text in model._meta.permissions:
            found[app, code] = f"{app}.{code}"
    return found


@cache
def _questions() -> dict[str, Question]:
    """Django's permission -> the question for it alone."""
    return {name: Question(kind, [action]) for (kind, action), name in _permissions().items()}


@cache
def _every_permission() -> list[Question]:
    kinds: dict[str, list[str]] = {}
    for kind, action in _permissions():
        kinds.setdefault(kind, []).append(action)
    return [
        Question(kind, actions[start : start + ACTIONS_AT_ONCE])
        for kind, actions in kinds.items()
        for start in range(0, len(actions), ACTIONS_AT_ONCE)
    ]


class PolicyBackend(ModelBackend):
    """Django's own backend; with CERBOS_URL the permissions are those that Cerbos allows.

    Superusers have every permission without its being asked: somebody must be able to come in
    where the policies are wrong.
    """

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        if not settings.CERBOS_URL or user_obj.is_superuser:
            return super().get_all_permissions(user_obj, obj)
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None:
            return set()
        # A user is read anew for each request.
        if not hasattr(user_obj, "_policy_cache"):
            names = _permissions()
            user_obj._policy_cache = {
                names[pair] for pair in allowed(user_obj, _every_permission()) if pair in names
            }
        return user_obj._policy_cache

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if not settings.CERBOS_URL or user_obj.is_superuser:
            return super().has_perm(user_obj, perm, obj)
        question = _questions().get(perm)
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None or question is None:
            return False
        asked = user_obj.__dict__.setdefault("_policy_asked", {})
        if perm not in asked:
            if len(asked) == FEW:
                return perm in self.get_all_permissions(user_obj)
            asked[perm] = bool(allowed(user_obj, [question]))
        return asked[perm]

    async def ahas_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return await sync_to_async(self.has_perm)(user_obj, perm, obj)

    async def aget_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        return await sync_to_async(self.get_all_permissions)(user_obj, obj)


class PolicyMiddleware(MiddlewareMixin):
    """What the console answers while Cerbos is away; the API has its own form of errors."""

    def process_exception(self, _request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, PolicyUnavailable):
            return None
        return HttpResponse(
            f"{error.message}\n", status=error.status, content_type="text/plain; charset=utf-8"
        )
