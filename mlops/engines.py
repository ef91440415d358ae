"""Engines by alias: a dotted path and options in settings, loaded once a process, in workers only.

This module imports no Django, so that a spawned process can hold engines without it.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from mlops.exceptions import ApplicationError, EngineUnavailable

log = structlog.get_logger(__name__)

# An engine that could not be loaded is not tried again for this long: loading may take seconds,
# and all pages of all jobs that wait for it would take them one after the other.
RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One entry of settings.ENGINES[family], or one that its ENGINE_LISTS tells of.

    `source`: where its files are kept (`mlops.sources`); fetched when it is built, which then gets
    their folder as option `folder`. `only_asked`: taken where a request names it, never by choice.
    """

    alias: str
    backend: str
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    only_asked: bool = False

    def backend_class(self) -> type:
        """The engine's class; importing it imports no library yet."""
        module, _, name = self.backend.rpartition(".")
        return getattr(importlib.import_module(module), name)

    @property
    def languages(self) -> frozenset[str]:
        """What it reads: as its option `languages` says, else as its class does."""
        if "languages" in self.options:
            return frozenset(self.options["languages"])
        return self.backend_class().languages

    def here(self) -> EngineSpec:
        """With its files on this machine. Raises EngineUnavailable."""
        if not self.source:
            return self
        from mlops.sources import fetched

        folder = str(fetched(self.source))
        return replace(self, source="", options={**self.options, "folder": folder})

    def build(self) -> Any:
        """The engine. Raises EngineUnavailable if its library or model is missing."""
        return self.backend_class()(**self.here().options)


class EngineCache:
    """Loads each engine on first use and keeps it; safe from several threads.

    Two threads that ask for one engine at once get the same: the second waits. Different engines
    load side by side. A failure is kept, too, for RETRY_SECONDS: what was missing may come.
    """

    def __init__(self, specs: dict[str, EngineSpec]) -> None:
        self.specs = specs
        self._engines: dict[str, Any] = {}
        self._built_as: dict[str, EngineSpec] = {}
        self._failures: dict[str, tuple[str, float]] = {}
        self._locks = {alias: threading.Lock() for alias in specs}

    def get(self, alias: str) -> Any:
        """The engine. Raises EngineUnavailable if its library or model is missing."""
        with self._locks[alias]:
            spec = self.specs[alias]
            if self._built_as.get(alias) != spec:
                self._engines[alias] = self._load(spec)
                self._built_as[alias] = spec
            return self._engines[alias]

    def learn(self, specs: dict[str, EngineSpec]) -> None:
        """From now on there are these. One that has changed is loaded anew when it is asked for."""
        for alias in specs.keys() - self._locks.keys():
            self._locks.setdefault(alias, threading.Lock())
        self.specs = specs
        for alias in self._built_as.keys() - specs.keys():
            # Whoever is reading with it holds it; its memory goes back after that.
            self._built_as.pop(alias, None)
            self._engines.pop(alias, None)

    def _load(self, spec: EngineSpec) -> Any:
        message, until = self._failures.get(spec.alias, ("", 0.0))
        if time.monotonic() < until:
            raise EngineUnavailable(message)
        started = time.monotonic()
        try:
            engine = spec.build()
        except EngineUnavailable as error:
            self._failures[spec.alias] = (error.message, time.monotonic() + RETRY_SECONDS)
            log.warning("engine_unavailable", alias=spec.alias, error=error.message)
            raise
        seconds = round(time.monotonic() - started, 2)
        log.info("engine_loaded", alias=spec.alias, device=engine.device, seconds=seconds)
        return engine


_caches: dict[str, EngineCache] = {}
_caches_lock = threading.Lock()


def configured(family: str) -> dict[str, EngineSpec]:
    """The engines that settings name, by alias."""
    from django.conf import settings

    return {
        alias: EngineSpec(
            alias, entry["BACKEND"], entry.get("OPTIONS", {}), entry.get("SOURCE", "")
        )
        for alias, entry in settings.ENGINES[family].items()
    }


def specs(family: str) -> dict[str, EngineSpec]:
    """The engines that settings name, and those that were trained, by alias."""
    return configured(family) | _listed(family)


def specs_for(family: str, aliases: Iterable[str]) -> dict[str, EngineSpec]:
    """As `specs`, for commands that may run without a database: it is asked only where one of the
    names is as those of trained engines are (`kind:name`)."""
    return specs(family) if any(":" in alias for alias in aliases) else configured(family)


def _listed(family: str) -> dict[str, EngineSpec]:
    from django.conf import settings
    from django.utils.module_loading import import_string

    path = settings.ENGINE_LISTS.get(family)
    return import_string(path)() if path else {}


def spec(family: str, alias: str) -> EngineSpec:
    """One engine's entry. Raises ApplicationError naming those that exist."""
    found = specs_for(family, [alias])
    if alias not in found:
        raise ApplicationError(
            f"There is no engine '{alias}'. Choose one of: {', '.join(sorted(found))}.",
            code="unknown_engine",
            param="engine",
        )
    return found[alias]


def cache(family: str) -> EngineCache:
    """This process's loaded engines of the family; it knows of those trained until now."""
    found = _loaded(family)
    known = {alias: spec for alias, spec in found.specs.items() if not spec.only_asked}
    found.learn(known | _listed(family))
    return found


def _loaded(family: str) -> EngineCache:
    with _caches_lock:
        if family not in _caches:
            _caches[family] = EngineCache(configured(family))
        return _caches[family]


def preload() -> None:
    """Loads what ENGINES_PRELOAD names (`ocr:rapidocr`).

    One that fails is not fatal: it is logged, the jobs that need it say why, all others run.
    """
    from django.conf import settings

    for name in settings.ENGINES_PRELOAD:
        family, _, alias = name.partition(":")
        with contextlib.suppress(EngineUnavailable):
            _loaded(family).get(alias)
