"""Loading: what is missing or damaged is named, and nothing is loaded that would answer wrongly."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm.engines.base import GenerationRequest
from llm.engines.slots import assembly
from llm.engines.slots.plain import Plain
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr.engines import device
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import GREEDY, Reference, load, run_one


@pytest.fixture
def folder(random_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_model, tmp_path / "model"))


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def write(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text('{"half": ')


def no_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-1-of-2.safetensors")


def no_layer(folder: Path) -> None:
    import_torch()
    safetensors = importlib.import_module("safetensors.torch")
    tensors = safetensors.load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    safetensors.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 99}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (unlink("config.json"), "lacks the file .*config.json"),
        (unlink("model.safetensors"), "lacks the file .*model.safetensors"),
        (unlink("tokenizer.json"), "lacks the file .*tokenizer.json"),
        (cut, "model.safetensors is damaged"),
        (write("config.json"), "config.json is damaged"),
        (write("tokenizer.json"), "tokenizer.json is damaged"),
        (no_shard, "lacks the file .*model-2-of-2.safetensors"),
        (no_layer, r"incomplete: 3 are missing \(model.layers.1.mlp"),
        (other_size, "can't be loaded"),
        (shutil.rmtree, "no model folder"),
    ],
)
def test_a_damaged_folder_is_refused_with_its_file(
    folder: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(folder)
    with pytest.raises(EngineUnavailable, match=said):
        load(folder)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"dtype": "int3"}, "no dtype 'int3'"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"quantization": "int8"}, "int8 needs a CUDA device"),
        ({"quantization": "int2"}, "no quantization 'int2'"),
        ({"options": {"max_bach": 4}}, "no option 'max_bach'"),
        ({"options": {"max_batch": "4"}}, "must be like 32"),
        ({"options": {"max_batch": 0}}, "max_batch must be 1 or more"),
        ({"options": {"pooling": "max"}}, "No pooling 'max'"),
    ],
)
def test_what_can_t_be_done_is_refused(
    random_model: Path, source: dict[str, Any], said: str
) -> None:
    with pytest.raises(EngineUnavailable, match=said):
        load(random_model, **source)


def test_a_hub_s_name_is_not_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(EngineUnavailable, match="'nobody/nothing' can't be loaded"):
        load(Path("nobody/nothing"))


def test_a_model_that_our_forward_pass_gets_wrong_runs_on_the_library_s(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(assembly.TOLERANCES, "float32", 0.0)
    model = load(random_model)
    try:
        assert isinstance(model._generation.batcher._model, Plain)
        run = run_one(model, GenerationRequest("one", prompt="Total", sampling=GREEDY))
        reference = Reference(random_model)
        assert run.text() == reference.text(reference.generate("Total"))
        # What such a model keeps is counted while it runs, and given back.
        assert model.memory_bytes == model._weight_bytes
    finally:
        model.close()


def test_bfloat16_is_chosen_where_the_processor_has_it(random_model: Path) -> None:
    model = load(random_model, dtype="auto")
    has_it = bool({"avx512_bf16", "amx_bf16"} & device.cpu_flags())
    expected = "bfloat16" if has_it else "float32"
    try:
        assert model.device == f"cpu {expected} 1 thread"
        run = run_one(model, GenerationRequest("one", prompt="Total", sampling=GREEDY))
        assert run.usage.completion == 24
    finally:
        model.close()


def test_half_precision_is_near_the_library_s(random_model: Path) -> None:
    """The check of our forward pass, at load, passes in bfloat16, too."""
    model = load(random_model, dtype="bfloat16")
    try:
        assert not isinstance(model._generation.batcher._model, Plain)
    finally:
        model.close()


def test_without_a_chat_template_only_chats_are_refused(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    model = load(folder)
    messages = [{"role": "user", "content": "Hello"}]
    try:
        with pytest.raises(ApplicationError) as caught:
            run_one(model, GenerationRequest("chat", messages=messages, sampling=GREEDY))
        assert (caught.value.code, caught.value.param) == ("no_chat_template", "messages")
        with pytest.raises(ApplicationError):
            model.render(messages)
        run = run_one(model, GenerationRequest("one", prompt="Total", sampling=GREEDY))
        assert run.usage.completion == 24
    finally:
        model.close()
