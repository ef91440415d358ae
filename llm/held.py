"""The models of this worker: each loaded once, the idle ones dropped when memory is short."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings

from llm.engines.base import (
    Embeddings,
    Ended,
    Event,
    Failed,
    GenerationRequest,
    Listener,
    LoadedModel,
    ModelSource,
)
from llm.instances import instance_forget, instance_tell
from llm.models import LanguageModel, ModelInstance
from llm.sources import local_path
from mlops import engines
from mlops.engines import RETRY_SECONDS
from mlops.exceptions import ApplicationError, EngineUnavailable

log = structlog.get_logger(__name__)


class HeldModel:
    """A LoadedModel that counts its open requests, and loads itself again if it was dropped.

    So a caller may keep it for as long as it likes, and one without requests is free to go.
    """

    def __init__(self, row: LanguageModel, holder: Holder) -> None:
        self.row = row
        # Of the row as it is now: the object may be changed by whoever gave it.
        self.key, self.made_of = row.pk, fingerprint(row)
        self.used_at = time.monotonic()
        # Seconds since the epoch, of when its last loading began.
        self.loaded_at = 0.0
        # What it took when it was last loaded, in bytes.
        self.known_memory = 0
        self._holder = holder
        self._loading = threading.Lock()
        self._counting = threading.Lock()
        self._loaded: LoadedModel | None = None
        self._active = 0
        self._failure: tuple[str, float] = ("", 0.0)

    # -- as a LoadedModel ---------------------------------------------------------------------

    @property
    def source(self) -> ModelSource:
        return self.loaded().source

    @property
    def device(self) -> str:
        return self.loaded().device

    @property
    def context_length(self) -> int:
        return self.loaded().context_length

    @property
    def memory_bytes(self) -> int:
        return self.loaded().memory_bytes

    @property
    def tool_format(self) -> str:
        return self.loaded().tool_format

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        loaded = self._begin()

        def counted(event: Event) -> None:
            if isinstance(event, Ended | Failed):
                self._end()
            listener(event)

        try:
            loaded.submit(request, counted)
        except BaseException:
            self._end()
            raise

    def cancel(self, request_id: str) -> None:
        loaded = self._loaded
        if loaded is not None:
            loaded.cancel(request_id)

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        return self.loaded().render(messages, tools)

    def count(self, text: str) -> int:
        return self.loaded().count(text)

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        loaded = self._begin()
        try:
            return loaded.embed(texts)
        finally:
            self._end()

    def close(self) -> None:
        """Ends what runs, and gives the memory back."""
        with self._loading:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.close()

    # -- for its holder -----------------------------------------------------------------------

    @property
    def active(self) -> int:
        return self._active

    @property
    def held_bytes(self) -> int:
        """0 while it isn't loaded."""
        loaded = self._loaded
        return 0 if loaded is None else loaded.memory_bytes

    def loaded(self) -> LoadedModel:
        """The model in memory; whoever asks while it loads waits. Raises EngineUnavailable.

        A failure is kept for RETRY_SECONDS: what was missing may come.
        """
        with self._loading:
            self.used_at = time.monotonic()
            if self._loaded is None:
                message, until = self._failure
                if time.monotonic() < until:
                    raise EngineUnavailable(message)
                # Before anybody is told that it is there, and may ask for it to go.
                began = time.time()
                try:
                    self._loaded = self._holder.load(self)
                except EngineUnavailable as error:
                    self._failure = (error.message, time.monotonic() + RETRY_SECONDS)
                    raise
                self.known_memory = self._loaded.memory_bytes
                self.loaded_at = began
            return self._loaded

    @property
    def failing(self) -> bool:
        return time.monotonic() < self._failure[1]

    def drop(self) -> bool:
        """Gives the memory back unless somebody uses it; whether it did."""
        if not self._loading.acquire(blocking=False):
            return False
        try:
            with self._counting:
                if self._active or self._loaded is None:
                    return False
                loaded, self._loaded = self._loaded, None
            loaded.close()
        finally:
            self._loading.release()
        return True

    def _begin(self) -> LoadedModel:
        while True:
            loaded = self.loaded()
            with self._counting:
                # It may have been dropped since the line above.
                if self._loaded is loaded:
                    self._active += 1
                    return loaded

    def _end(self) -> None:
        with self._counting:
            self._active -= 1
            self.used_at = time.monotonic()


class Holder:
    """All models of one process, within LLM_MEMORY_MB. Different models load side by side."""

    def __init__(self) -> None:
        self._models: dict[int, HeldModel] = {}
        # Replaced by a newer version of their row, and still at work.
        self._retired: list[HeldModel] = []
        self._lock = threading.Lock()

    def get(self, model: LanguageModel) -> LoadedModel:
        held = self.hold(model.root)
        held.loaded()
        return held

    def hold(self, row: LanguageModel) -> HeldModel:
        """The model's place here, loaded or not; a row that was changed gets a new one."""
        with self._lock:
            held = self._models.get(row.pk)
            if held is not None and held.made_of != fingerprint(row):
                self._retired.append(self._models.pop(row.pk))
                held = None
            if held is None:
                held = self._models[row.pk] = HeldModel(row, self)
            else:
                held.row = row
        self.sweep()
        return held

    def models(self) -> list[HeldModel]:
        with self._lock:
            return list(self._models.values())

    def holds(self, row: LanguageModel) -> bool:
        """Whether it is in memory, or has just proved impossible to load."""
        held = self._models.get(row.pk)
        return held is not None and (held.held_bytes > 0 or held.failing)

    def drop(self, held: HeldModel) -> bool:
        """Gives an idle model's memory back; it is loaded again by whoever asks for it."""
        freed = held.held_bytes
        if not held.drop():
            return False
        instance_forget(held.key)
        log.info("model_dropped", model=held.row.name, bytes=freed)
        return True

    def retire(self, held: HeldModel) -> None:
        """Lets go of a model as soon as its last request has ended."""
        with self._lock:
            if self._models.get(held.key) is held:
                del self._models[held.key]
                self._retired.append(held)
        self.sweep()

    def sweep(self) -> None:
        """Closes retired models that have become idle."""
        if not self._retired:
            return
        with self._lock:
            idle = [held for held in self._retired if not held.active]
            self._retired = [held for held in self._retired if held.active]
        for held in idle:
            held.close()
            if held.key not in self._models:
                instance_forget(held.key)
            log.info("model_unloaded", model=held.row.name)

    def close(self) -> None:
        with self._lock:
            models = [*self._models.values(), *self._retired]
            self._models, self._retired = {}, []
        for held in models:
            held.close()
            instance_forget(held.key)

    def load(self, held: HeldModel) -> LoadedModel:
        """Called by a held model, under its own lock."""
        row = held.row
        instance_tell(row, ModelInstance.State.LOADING)
        started = time.monotonic()
        try:
            engine = engines.cache("llm").get(engines.spec("llm", row.engine).alias)
            source = model_source(row)
            self._make_room(held, held.known_memory or weights_size(source.path))
            loaded = engine.load(source)
        except (EngineUnavailable, ApplicationError) as error:
            instance_tell(row, ModelInstance.State.FAILED, error=error.message)
            log.warning("model_unavailable", model=row.name, error=error.message)
            raise EngineUnavailable(error.message) from error
        self._make_room(held, loaded.memory_bytes)
        instance_tell(
            row,
            ModelInstance.State.READY,
            device=loaded.device,
            memory_bytes=loaded.memory_bytes,
        )
        seconds = round(time.monotonic() - started, 2)
        log.info("model_loaded", model=row.name, device=loaded.device, seconds=seconds)
        return loaded

    def _make_room(self, wanted: HeldModel, size: int) -> None:
        """Drops idle models, least recently used first, until `size` bytes fit in the budget."""
        if not settings.LLM_MEMORY_BYTES:
            return
        others = [held for held in self.models() if held is not wanted and held.held_bytes]
        used = sum(held.held_bytes for held in others) + size
        for held in sorted(others, key=lambda one: one.used_at):
            if used <= settings.LLM_MEMORY_BYTES:
                return
            freed = held.held_bytes
            if not held.row.warm and self.drop(held):
                used -= freed
        if used > settings.LLM_MEMORY_BYTES:
            log.warning("memory_over_budget", model=wanted.row.name, bytes=used)


def model_source(row: LanguageModel) -> ModelSource:
    """What the engine is told of a base. Raises EngineUnavailable if its files can't be fetched."""
    return ModelSource(
        name=row.name,
        path=local_path(row.source),
        dtype=row.dtype,
        device=row.device,
        quantization=row.quantization,
        context_length=row.context_length,
        chat_template=row.chat_template,
        options=row.options,
    )


def fingerprint(row: LanguageModel) -> tuple[object, ...]:
    """What a loaded model depends on: with any of it changed it must be loaded anew."""
    return (
        *(row.name, row.engine, row.source, row.dtype, row.device, row.quantization),
        *(row.context_length, row.chat_template, repr(row.options)),
    )


def weights_size(path: str) -> int:
    """Bytes of the weight files in a folder; 0 for a hub's name. About what loading takes."""
    with contextlib.suppress(OSError):
        return sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    return 0


holder = Holder()


def get(model: LanguageModel) -> LoadedModel:
    """The base that this model is, or is an adapter on, loaded. Raises EngineUnavailable.

    The first call loads it; threads that ask meanwhile wait for the same one.
    """
    return holder.get(model)
