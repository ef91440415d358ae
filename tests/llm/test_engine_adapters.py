"""LoRA adapters: many on one base in one batch, exactly as peft has them, never the base."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm.engines.base import AdapterSource, GenerationRequest, LoadedModel, Sampling
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_all, run_one

PROMPT = "Total: 12,000 won"


@pytest.fixture(scope="module")
def model(random_model: Path) -> Iterator[LoadedModel]:
    served = load(random_model)
    yield served
    served.close()


def asking(name: str, adapter: Path | None, prompt: str = PROMPT) -> GenerationRequest:
    source = None if adapter is None else AdapterSource(adapter.name, str(adapter))
    return GenerationRequest(name, prompt=prompt, sampling=GREEDY, adapter=source)


def peft_adapter(folder: Path, base: Path, **config: Any) -> Path:
    import_torch()
    peft = importlib.import_module("peft")
    reference = Reference(base)
    made = peft.LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM", **config)
    peft.get_peft_model(reference.model, made).save_pretrained(folder)
    return folder


def test_adapters_mixed_in_one_batch_answer_as_peft_does(
    model: LoadedModel, random_model: Path, random_adapters: tuple[Path, ...]
) -> None:
    prompts = [PROMPT, "한국어 문장", "a much longer prompt with more words in it than the others"]
    wanted = [None, *random_adapters, None, *random_adapters]
    runs = run_all(
        model,
        [asking(str(at), adapter, prompts[at % len(prompts)]) for at, adapter in enumerate(wanted)],
    )
    texts = set()
    for at, (adapter, run) in enumerate(zip(wanted, runs, strict=True)):
        reference = Reference(random_model, adapter)
        expected = reference.text(reference.generate(prompts[at % len(prompts)]))
        assert run.text() == expected
        texts.add((adapter, at % len(prompts), expected))
    assert len({text for _, _, text in texts}) == len(wanted)


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {"r": 2, "lora_alpha": 4, "target_modules": ["k_proj", "down_proj", "up_proj"]},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "o_proj", "gate_proj"],
            "rank_pattern": {"o_proj": 2},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 64},
            "layers_to_transform": [1],
        },
    ],
    ids=["rslora", "few modules", "patterns"],
)
def test_kinds_of_lora_are_as_peft_has_them(
    model: LoadedModel, random_model: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = peft_adapter(tmp_path / "adapter", random_model, **config)
    reference = Reference(random_model, folder)
    expected = reference.text(reference.generate(PROMPT))
    assert run_one(model, asking("one", folder)).text() == expected
    assert expected != run_one(model, asking("base", None)).text()


def missing(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def cut(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def no_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def dora(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))


def other_base(folder: Path) -> None:
    torch = import_torch()
    safetensors = importlib.import_module("safetensors.torch")
    tensors = safetensors.load_file(folder / "adapter_model.safetensors")
    wider = {
        name: torch.zeros(tensor.shape[0] + 1, tensor.shape[1]) for name, tensor in tensors.items()
    }
    safetensors.save_file(wider, folder / "adapter_model.safetensors")


def unknown_module(folder: Path) -> None:
    torch = import_torch()
    safetensors = importlib.import_module("safetensors.torch")
    tensors = safetensors.load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(2, 64)
    safetensors.save_file(tensors, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing, "adapter_model.safetensors"),
        (cut, "adapter_model.safetensors is damaged"),
        (no_json, "can't be used"),
        (dora, "use_dora"),
        (other_base, "and the base's is"),
        (unknown_module, "lm_head"),
        (shutil.rmtree, "adapter_config.json"),
    ],
)
def test_a_broken_adapter_fails_its_own_requests_alone(
    model: LoadedModel,
    random_adapters: tuple[Path, ...],
    tmp_path: Path,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(random_adapters[0], folder)
    damage(folder)
    with pytest.raises(ApplicationError, match="'broken' can't be used") as caught:
        run_one(model, asking("broken", folder))
    assert caught.value.code == "adapter_unavailable"
    assert said in caught.value.message
    assert run_one(model, asking("sound", random_adapters[0])).usage.completion == 24


def test_the_least_recently_used_adapter_goes_when_memory_is_short(
    random_model: Path, random_adapters: tuple[Path, ...]
) -> None:
    served = load(random_model, options={"adapter_memory_mb": 0})
    try:
        alone = served.memory_bytes
        texts = [run_one(served, asking("1", adapter)).text() for adapter in random_adapters]
        # The last one stays; nothing that was read under another is shared with it.
        shelf = served._generation.shelf
        assert list(shelf._adapters) == [str(random_adapters[-1])]
        assert served.memory_bytes > alone
        assert [run_one(served, asking("2", one)).text() for one in random_adapters] == texts
    finally:
        served.close()


def test_what_an_adapter_has_read_is_shared_with_itself_alone(
    model: LoadedModel, random_adapters: tuple[Path, ...]
) -> None:
    prompt = "A beginning that no other test has, long enough to be shared between requests."
    sampling = Sampling(max_tokens=4, temperature=0.0)
    first, other = (AdapterSource(one.name, str(one)) for one in random_adapters[:2])
    cached = [
        run_one(
            model, GenerationRequest("x", prompt=prompt, sampling=sampling, adapter=adapter)
        ).usage.cached
        for adapter in (first, other, None, first, other, None)
    ]
    assert cached[:3] == [0, 0, 0]
    assert min(cached[3:]) > 10
