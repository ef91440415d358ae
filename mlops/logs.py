"""Logs as events with fields: one line each, JSON in production, coloured text elsewhere.

Request id, job id and user travel in structlog's context variables, so that lines written by any
library carry them too.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog

_SHARED = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.stdlib.ExtraAdder(),
]


def logging_config(*, fmt: str, level: str) -> dict[str, Any]:
    """The LOGGING setting; configures structlog to go through it. `fmt`: json or console."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if fmt == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=0,
                # The prettier one prints local variables, an Authorization header among them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "event": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "event"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": {"level": "WARNING"},
            # Django repeats each 4xx and 5xx that the request log already has.
            "django.request": {"level": "ERROR"},
            "celery": {"level": "WARNING"},
            "celery.worker.consumer": {"level": "INFO"},
            "kombu": {"level": "WARNING"},
            "alembic": {"level": "WARNING"},
            "mlflow": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "pikepdf": {"level": "WARNING"},
        },
    }
