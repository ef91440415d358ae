"""System checks: what would break later is said at start, with what mends it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from mlops import engines


@register(Tags.security)
def production_settings(**_: Any) -> list[CheckMessage]:
    """ENVIRONMENT=production with settings that are fit for one machine or for development only."""
    if not settings.PRODUCTION:
        return []
    database = settings.DATABASES["default"]["ENGINE"]
    problems = [
        (
            not settings.SECRET_KEY_FROM_ENV or len(settings.SECRET_KEY) < 50,
            "SECRET_KEY is missing or shorter than 50 characters.",
            'Make one: python -c "import secrets; print(secrets.token_urlsafe(64))"',
            "mlops.E001",
        ),
        (settings.DEBUG, "DEBUG is on in production.", "Remove DEBUG.", "mlops.E002"),
        (
            not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS,
            "ALLOWED_HOSTS is empty or '*'.",
            "Name the hosts that people use, separated by commas.",
            "mlops.E003",
        ),
        (
            database.endswith("sqlite3"),
            "Production runs on several machines; SQLite is a file on one.",
            "Set DATABASE_URL=postgresql://…",
            "mlops.E004",
        ),
        (
            settings.CELERY_BROKER_URL.startswith(("filesystem", "memory")),
            "Production runs on several machines; the file broker works on one.",
            "Set REDIS_URL=redis://… (with maxmemory-policy noeviction).",
            "mlops.E005",
        ),
        (
            not settings.SESSION_COOKIE_SECURE,
            "Session cookies would be sent over plain HTTP.",
            "Remove COOKIES_SECURE=false.",
            "mlops.E006",
        ),
    ]
    found: list[CheckMessage] = [
        Error(message, hint=hint, id=id) for wrong, message, hint, id in problems if wrong
    ]
    if not settings.S3_BUCKET:
        found.append(
            Warning(
                "Documents are kept on this machine's disk.",
                hint="Set S3_BUCKET, or mount one volume at MEDIA_ROOT on web and workers alike, "
                "then silence mlops.W001.",
                id="mlops.W001",
            )
        )
    return found


@register()
def engines_resolve(**_: Any) -> list[CheckMessage]:
    """Each alias names a class that can be imported (its library need not be installed here)."""
    found: list[CheckMessage] = []
    for family in settings.ENGINES:
        for alias, spec in engines.configured(family).items():
            try:
                spec.backend_class()
            except (ImportError, AttributeError, ValueError) as error:
                found.append(
                    Error(
                        f"Engine '{family}:{alias}' names '{spec.backend}', which can't be "
                        f"imported: {error}",
                        hint="Correct BACKEND in ENGINES or in OCR_ENGINES, LLM_ENGINES.",
                        id="mlops.E010",
                    )
                )
    if settings.OCR_DEFAULT_ENGINE not in settings.ENGINES["ocr"]:
        found.append(
            Error(
                f"OCR_DEFAULT_ENGINE is '{settings.OCR_DEFAULT_ENGINE}', which is no engine.",
                hint=f"Choose one of: {', '.join(settings.ENGINES['ocr'])}.",
                id="mlops.E011",
            )
        )
    for name in settings.ENGINES_PRELOAD:
        family, _sep, alias = name.partition(":")
        if alias not in settings.ENGINES.get(family, {}):
            found.append(
                Error(
                    f"ENGINES_PRELOAD names '{name}', which is no engine.",
                    hint="Write family:alias, as in ocr:rapidocr.",
                    id="mlops.E012",
                )
            )
    return found


@register()
def queues_known(**_: Any) -> list[CheckMessage]:
    """Jobs and READY_QUEUES name queues that workers are told of."""
    from mlops.models import Job

    named = {child.KIND: child.QUEUE for child in Job.__subclasses__()}
    pairs = [*named.items(), *(("READY_QUEUES", name) for name in settings.READY_QUEUES)]
    return [
        Error(
            f"{what} uses the queue '{queue}', which is not in QUEUES.",
            hint=f"Choose one of: {', '.join(settings.QUEUES)}.",
            id="mlops.E013",
        )
        for what, queue in pairs
        if queue not in settings.QUEUES
    ]


@register()
def storage_writable(**_: Any) -> list[CheckMessage]:
    """A local storage takes a file. (An S3 bucket is asked by /ready, not at each command.)"""
    if settings.S3_BUCKET:
        return []
    from mlops.health import storage_write

    try:
        storage_write()
    except OSError as error:
        return [
            Error(
                f"Documents can't be stored: {error}",
                hint="Make MEDIA_ROOT (or DATA_DIR/media) a folder that this user may write.",
                id="mlops.E014",
            )
        ]
    return []
