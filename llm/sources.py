"""Where a model's files are: a folder of this machine or of the storage, a hub, or MLflow."""

from __future__ import annotations

import threading
from pathlib import Path

from django.conf import settings

from mlops import tracking
from mlops.exceptions import EngineUnavailable
from mlops.stored_folders import FolderMissing, folder_get
from mlops.tracking import TrackingUnavailable

REGISTERED = "models:/"
# A folder of the platform's own storage, where training puts what comes of it.
STORED = "stored:"
# Where MLflow's transformers flavour puts the weights, the adapter and the tokenizer.
WEIGHTS, TOKENIZER = ("model", "peft"), "components/tokenizer"

_downloads = threading.Lock()


def local_path(source: str) -> str:
    """A path or hub name that an engine can load.

    `models:/name@alias` and `models:/name/3` are downloaded once a version and kept in DATA_DIR.
    `stored:folder` is fetched from the storage, once. Raises EngineUnavailable if what is named
    can't be reached or isn't there.
    """
    if source.startswith(STORED):
        return str(_loadable(_from_storage(source.removeprefix(STORED))))
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


def _from_storage(name: str) -> Path:
    # Made by the platform, and yet a row's text: it must not lead out of the folder of models.
    place = (settings.DATA_DIR / "models" / "stored" / name).resolve()
    if not place.is_relative_to(settings.DATA_DIR / "models" / "stored"):
        raise EngineUnavailable(f"'stored:{name}' is no folder of models.")
    try:
        with _downloads:
            folder_get(name, place)
    except FolderMissing as error:
        raise EngineUnavailable(f"The model's files can't be fetched: {error.message}") from error
    return place


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
