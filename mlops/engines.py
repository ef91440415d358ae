"""Engines by alias: a dotted path and options in settings, loaded once a process, in workers only.

This module imports no Django, so that a spawned process can hold engines without it.
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass, field
from typing import Any

import structlog

from mlops.exceptions import ApplicationError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One entry of settings.ENGINES[family]."""

    alias: str
    backend: str
    options: dict[str, Any] = field(default_factory=dict)

    def backend_class(self) -> type:
        """The engine's class; importing it imports no library yet."""
        module, _, name = self.backend.rpartition(".")
        return getattr(importlib.import_module(module), name)


class EngineCache:
    """Loads each engine on first use and keeps it; safe from several threads.

    Two threads that ask for one engine at once get the same: the second waits. Different engines
    load side by side.
    """

    def __init__(self, specs: dict[str, EngineSpec]) -> None:
        self.specs = specs
        self._engines: dict[str, Any] = {}
        self._locks = {alias: threading.Lock() for alias in specs}

    def get(self, alias: str) -> Any:
        """The engine. Raises EngineUnavailable if its library or model is missing."""
        with self._locks[alias]:
            if alias not in self._engines:
                spec = self.specs[alias]
                self._engines[alias] = spec.backend_class()(**spec.options)
                log.info("engine_loaded", alias=alias, device=self._engines[alias].device)
            return self._engines[alias]


_caches: dict[str, EngineCache] = {}
_caches_lock = threading.Lock()


def specs(family: str) -> dict[str, EngineSpec]:
    """The engines that settings name, by alias."""
    from django.conf import settings

    return {
        alias: EngineSpec(alias, entry["BACKEND"], entry.get("OPTIONS", {}))
        for alias, entry in settings.ENGINES[family].items()
    }


def spec(family: str, alias: str) -> EngineSpec:
    """One engine's entry. Raises ApplicationError naming those that exist."""
    found = specs(family)
    if alias not in found:
        raise ApplicationError(
            f"There is no engine '{alias}'. Choose one of: {', '.join(sorted(found))}.",
            code="unknown_engine",
            param="engine",
        )
    return found[alias]


def cache(family: str) -> EngineCache:
    """This process's loaded engines of the family."""
    with _caches_lock:
        if family not in _caches:
            _caches[family] = EngineCache(specs(family))
        return _caches[family]


def preload() -> None:
    """Loads what ENGINES_PRELOAD names (`ocr:rapidocr`).

    One that fails is logged, not fatal: the jobs that need it say why, all others run.
    """
    from django.conf import settings

    from mlops.exceptions import EngineUnavailable

    for name in settings.ENGINES_PRELOAD:
        family, _, alias = name.partition(":")
        try:
            cache(family).get(alias)
        except EngineUnavailable as error:
            log.error("engine_unavailable", alias=alias, error=error.message)
