"""The language engine on an NVIDIA GPU: it says that it runs there, and says what the CPU says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm import tiny
from llm.engines.base import AdapterSource, GenerationRequest, LoadedModel
from llm.engines.slots.plain import Plain
from mlops.exceptions import EngineUnavailable
from ocr.engines import device
from tests.llm.engine_runs import GREEDY, Reference, load, run_all, run_one

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

PROMPTS = ["Total: 12,000 won", "a", "The quick brown fox jumps over the lazy dog. " * 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.random_model(tmp_path_factory.mktemp("gpu") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[LoadedModel]:
    served = load(folder, device="auto")
    yield served
    served.close()


def requests(adapter: AdapterSource | None = None) -> list[GenerationRequest]:
    return [
        GenerationRequest(str(at), prompt=prompt, sampling=GREEDY, adapter=adapter)
        for at, prompt in enumerate(PROMPTS)
    ]


def test_it_runs_on_the_gpu_and_says_what_generate_says(model: LoadedModel, folder: Path) -> None:
    assert model.device == "cuda:0 float32"
    assert not isinstance(model._generation.batcher._model, Plain)
    reference = Reference(folder)
    for prompt, run in zip(PROMPTS, run_all(model, requests()), strict=True):
        assert run.text() == reference.text(reference.generate(prompt))


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_half_precision_passes_the_check_of_our_forward_pass(folder: Path, dtype: str) -> None:
    half = load(folder, device="cuda:0", dtype=dtype)
    try:
        assert half.device in ("cuda:0 bfloat16", "cuda:0 float16")
        assert not isinstance(half._generation.batcher._model, Plain)
        assert all(run.usage.completion == 24 for run in run_all(half, requests()))
    finally:
        half.close()


@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gpt2"])
def test_other_architectures(tmp_path: Path, architecture: str) -> None:
    config: dict[str, Any] = {"sliding_window": 24} if architecture == "mistral" else {}
    made = tiny.random_model(tmp_path / "model", architecture=architecture, **config)
    other, reference = load(made, device="cuda"), Reference(made)
    try:
        for prompt, run in zip(PROMPTS, run_all(other, requests()), strict=True):
            assert run.text() == reference.text(reference.generate(prompt))
    finally:
        other.close()


def test_adapters_and_embeddings(model: LoadedModel, folder: Path, tmp_path: Path) -> None:
    adapter = tiny.lora_adapter(tmp_path / "adapter", folder)
    reference = Reference(folder, adapter)
    runs = run_all(model, requests(AdapterSource("one", str(adapter))))
    for prompt, run in zip(PROMPTS, runs, strict=True):
        assert run.text() == reference.text(reference.generate(prompt))
    on_cpu = load(folder)
    try:
        found, wanted = (one.embed(PROMPTS).vectors for one in (model, on_cpu))
        assert max(abs(a - b).max() for a, b in zip(found, wanted, strict=True)) < 1e-3
    finally:
        on_cpu.close()


def test_several_gpus_by_map(folder: Path) -> None:
    spread = load(folder, device="map")
    try:
        assert spread.device == "map float32"
        run = run_one(spread, requests()[0])
        reference = Reference(folder)
        assert run.text() == reference.text(reference.generate(PROMPTS[0]))
    finally:
        spread.close()


def test_a_gpu_too_many_is_refused(folder: Path) -> None:
    with pytest.raises(EngineUnavailable, match="There is no cuda:"):
        load(folder, device=f"cuda:{device.cuda_devices()}")
