"""Folders of model files that are kept elsewhere: in the platform's storage, or in MLflow.

`stored:folder` is a folder of the storage, where training puts what comes of it. `models:/name/3`
and `models:/name@alias` are registered with MLflow.
"""

from __future__ import annotations

import threading
from pathlib import Path

from mlops.exceptions import EngineUnavailable

REGISTERED = "models:/"
STORED = "stored:"

_downloads = threading.Lock()


def fetched(source: str) -> Path:
    """The folder on this machine: fetched once a version and kept in MODELS_FOLDER.

    Any other source is a path as it stands. Raises EngineUnavailable if what is named can't be
    reached or isn't there.
    """
    from django.conf import settings

    if source.startswith(STORED):
        return _from_storage(source.removeprefix(STORED), settings.MODELS_FOLDER / "stored")
    if source.startswith(REGISTERED):
        return _from_registry(source, settings.MODELS_FOLDER)
    return Path(source)


def _from_registry(source: str, folder: Path) -> Path:
    from mlops import tracking

    try:
        with _downloads:
            return tracking.download(source, folder)
    except tracking.TrackingUnavailable as error:
        raise EngineUnavailable(
            f"'{source}' can't be fetched from MLflow: {error}. Check the name and alias, and "
            "MLFLOW_TRACKING_URI."
        ) from error


def _from_storage(name: str, folder: Path) -> Path:
    from mlops.stored_folders import FolderMissing, folder_get

    # Made by the platform, and yet a row's text: it must not lead out of the folder of models.
    place = (folder / name).resolve()
    if not place.is_relative_to(folder):
        raise EngineUnavailable(f"'{STORED}{name}' is no folder of models.")
    try:
        with _downloads:
            folder_get(name, place)
    except FolderMissing as error:
        raise EngineUnavailable(f"The model's files can't be fetched: {error.message}") from error
    return place
