"""Where a model's files are: a folder of this machine, a hub's name, or MLflow's registry."""

from __future__ import annotations

import threading
from pathlib import Path

from django.conf import settings

from mlops import tracking
from mlops.exceptions import EngineUnavailable
from mlops.tracking import TrackingUnavailable

REGISTERED = "models:/"
# Where MLflow's transformers flavour puts the weights, the adapter and the tokenizer.
WEIGHTS, TOKENIZER = ("model", "peft"), "components/tokenizer"

_downloads = threading.Lock()


def local_path(source: str) -> str:
    """A path or hub name that an engine can load.

    `models:/name@alias` and `models:/name/3` are downloaded once a version and kept in DATA_DIR.
    Raises EngineUnavailable if the registry can't be reached or has no such model.
    """
    if not source.startswith(REGISTERED):
        return source
    try:
        with _downloads:
            folder = tracking.download(source, settings.DATA_DIR / "models")
    except TrackingUnavailable as error:
        raise EngineUnavailable(
            f"'{source}' can't be fetched from MLflow: {error}. Check the name and alias, and "
            "MLFLOW_TRACKING_URI."
        ) from error
    return str(_loadable(folder))


def _loadable(folder: Path) -> Path:
    """The folder that holds config and weights, with the tokenizer beside them."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_dir()), folder)
    tokenizer = folder / TOKENIZER
    if tokenizer.is_dir():
        for file in tokenizer.iterdir():
            place = found / file.name
            if not place.exists():
                place.symlink_to(file)
    return found
