"""Tiny models, each made once for all processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from filelock import FileLock

from llm import held, tiny
from mlops import engines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a busy machine the training alone may take what a test is given by default."""
    for item in items:
        if isinstance(item, pytest.Function) and "trained_model" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def shared_folder(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], object]], Path]:
    """`shared_folder(name, make)`: the folder that the first of the run's processes has made."""
    base = tmp_path_factory.getbasetemp()
    root = base if worker_id == "master" else base.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path = root / name
        with FileLock(root / f"{name}.lock"):
            if not path.is_dir():
                unfinished = root / f"{name}.unfinished"
                make(unfinished)
                unfinished.rename(path)
        return path

    return folder


@pytest.fixture(scope="session")
def random_model(shared_folder: Callable[..., Path]) -> Path:
    """A Llama with random weights; its answers are nonsense, but the same each time."""
    return shared_folder("random-model", tiny.random_model)


@pytest.fixture(scope="session")
def trained_model(shared_folder: Callable[..., Path]) -> Path:
    """A Llama whose greedy answers to `llm.tiny.lessons` are right. Takes half a minute to make."""
    return shared_folder("trained-model", tiny.trained_model)


@pytest.fixture(scope="session")
def random_adapters(shared_folder: Callable[..., Path], random_model: Path) -> tuple[Path, ...]:
    """Three LoRA adapters of `random_model`."""
    return tuple(
        shared_folder(
            f"random-adapter-{seed}",
            lambda folder, seed=seed: tiny.lora_adapter(folder, random_model, seed=seed),
        )
        for seed in (1, 2, 3)
    )


@pytest.fixture(scope="session")
def embedding_model(shared_folder: Callable[..., Path]) -> Path:
    """A BERT whose vectors are near where texts share words."""
    return shared_folder("embedding-model", tiny.embedding_model)


@pytest.fixture
def fake_engine(settings: LazySettings) -> Iterator[None]:
    """The engine "fake" alone, in this process; what it has loaded goes with the test."""
    backend = {"BACKEND": "tests.fakes.FakeLanguageEngine"}
    settings.ENGINES = {**settings.ENGINES, "llm": {"fake": backend}}
    engines._caches.pop("llm", None)
    yield
    held.holder.close()
    engines._caches.pop("llm", None)
