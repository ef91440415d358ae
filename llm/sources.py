"""Where a model's files are: a folder of this machine or of the storage, a hub, or MLflow."""

from __future__ import annotations

from pathlib import Path

from mlops.sources import REGISTERED, STORED, fetched

# Where MLflow's transformers flavour puts the weights, the adapter and the tokenizer.
WEIGHTS, TOKENIZER = ("model", "peft"), "components/tokenizer"


def local_path(source: str) -> str:
    """A path or hub name that an engine can load.

    What is kept in the storage (`stored:`) or registered with MLflow (`models:/`) is fetched.
    Raises EngineUnavailable if it can't be reached or isn't there.
    """
    if not source.startswith((STORED, REGISTERED)):
        return source
    return str(loadable(fetched(source)))


def loadable(folder: Path) -> Path:
    """The folder that holds config and weights, with the tokenizer beside them."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_dir()), folder)
    tokenizer = folder / TOKENIZER
    if tokenizer.is_dir():
        for file in tokenizer.iterdir():
            place = found / file.name
            if not place.exists():
                place.symlink_to(file)
    return found
