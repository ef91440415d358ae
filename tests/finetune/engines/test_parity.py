"""A result that isn't what was trained is found out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.engines import language, parity, prepared, result, sft, trainers
from finetune.engines.base import RESULT, Finished
from finetune.engines.trainers import Batch
from llm.sources import loadable
from ocr.engines.torch_library import import_torch
from tests.finetune.engines.runs import SLOW, Told, rotations, run, spec

pytestmark = pytest.mark.timeout(SLOW)


def scale_wrongly(folder: Path) -> None:
    """As when an adapter is read with another scale than it was trained with."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": 4 * config["lora_alpha"]}))


def forget(folder: Path) -> None:
    """As when the weights saved aren't those that were trained."""
    safetensors = __import__("safetensors.torch").torch
    path = folder / "adapter_model.safetensors"
    weights = safetensors.load_file(path)
    safetensors.save_file({name: 0 * tensor for name, tensor in weights.items()}, path)


@pytest.mark.parametrize("break_it", [scale_wrongly, forget])
def test_a_broken_result_is_unfit(
    tmp_path: Path, random_model: Path, break_it: Callable[[Path], None]
) -> None:
    one = spec(tmp_path, random_model, rotations()[:32], max_steps=6, learning_rate=1e-2)
    told, found = Told(), {}
    config = language.config_of(one)
    tokenizer = language.tokenizer_of(one)
    rows = prepared.prepare(one, config, tokenizer, told, sft.METHOD.form)
    base = language.load(one, config, tokenizer)
    trainer = trainers.build(one, config, base, rows, Batch(8, 1), sft.METHOD)
    trainer.train()
    model = result.bare(trainer)
    result.save(tmp_path / RESULT, model, base)
    prompts = parity.prompts_of(one, rows.tokens)
    trained = parity.scores(model, prompts, tokenizer)
    found["whole"] = parity.check(one, tmp_path / RESULT, base, prompts, trained)
    break_it(loadable(tmp_path / RESULT))
    found["broken"] = parity.check(one, tmp_path / RESULT, base, prompts, trained)
    assert found["whole"]["fit"]
    assert found["whole"]["prompts"] == 8
    assert not found["broken"]["fit"]
    for side in ("reloaded", "served"):
        assert found["whole"][side]["max_difference"] < found["whole"]["tolerance"]
        assert found["broken"][side]["max_difference"] > 5 * found["broken"]["tolerance"]
        assert not found["broken"][side]["agree"]


def test_another_template_than_it_is_served_with_is_found(
    tmp_path: Path, random_model: Path
) -> None:
    """The prompt that a client's messages become must be the one that was learned from."""
    base = tmp_path / "base"
    shutil.copytree(random_model, base)
    own = (base / "chat_template.jinja").read_text()
    one = spec(tmp_path, base, rotations()[:16], max_steps=1)
    other = own.replace("<|im_start|>user\\n", "<|im_start|>asker\\n").replace(
        "'<|im_start|>' + message.role", "'<|im_start|>the ' + message.role"
    )
    assert other != own
    # Given with the spec it is served with, too: all is well.
    assert run(replace(one, chat_template=other)).one(Finished).parity["fit"]
    tokens = prepared.prepare(
        one,
        language.config_of(one),
        language.tokenizer_of(replace(one, chat_template=other)),
        Told(),
        sft.METHOD.form,
    ).tokens
    prompts = parity.prompts_of(one, tokens)
    config = language.config_of(one)
    loaded = language.load(one, config, language.tokenizer_of(one))
    model = parity.reloaded(one, tmp_path / RESULT, loaded)
    trained = parity.scores(model, prompts, loaded.tokenizer)
    found = parity.check(one, tmp_path / RESULT, loaded, prompts, trained)
    assert found["reloaded"]["agree"]
    assert not found["served"]["agree"]
    assert not found["fit"]


def test_half_precision_has_a_tolerance_of_its_own(tmp_path: Path, random_model: Path) -> None:
    import_torch()
    told = run(spec(tmp_path, random_model, rotations()[:16], max_steps=3, dtype="bfloat16"))
    found = told.one(Finished).parity
    assert found["dtype"] == "bfloat16"
    assert found["tolerance"] > parity.TOLERANCES["float32"]
    assert found["fit"], found
