"""A model in this process for a command: a row's, or a folder or hub name without any row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llm.ask import adapter_of
from llm.engines.base import AdapterSource, LoadedModel, ModelSource
from llm.held import model_source
from llm.models import LanguageModel
from llm.selectors import model_resolve
from llm.sources import local_path
from mlops import engines
from mlops.exceptions import ApplicationError


@dataclass(frozen=True, slots=True)
class LocalModel:
    name: str
    loaded: LoadedModel
    adapter: AdapterSource | None = None


def load_model(name: str, *, engine: str, dtype: str = "auto", device: str = "auto") -> LocalModel:
    """A folder of that name goes first, then a row or alias; what is neither is a hub's name.

    `engine`, `dtype` and `device` are for a model without a row, which has its own. Raises
    EngineUnavailable if it can't be loaded, ApplicationError for an engine that isn't there.
    """
    row = None if Path(name).is_dir() else _row(name)
    if row is not None:
        loader = engines.cache("llm").get(engines.spec("llm", row.root.engine).alias)
        return LocalModel(name, loader.load(model_source(row.root)), adapter_of(row))
    loader = engines.cache("llm").get(engines.spec("llm", engine).alias)
    source = ModelSource(name=name, path=local_path(name), dtype=dtype, device=device)
    return LocalModel(name, loader.load(source))


def _row(name: str) -> LanguageModel | None:
    try:
        return model_resolve(name)
    except ApplicationError:
        return None
