"""What a dry run says of a training before it begins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune.engines.base import Looked, Started, TrainSpec
from finetune.engines.memory import Shape, estimate
from tests.finetune.engines.runs import SLOW, chat, failed, rotations, run, spec

pytestmark = pytest.mark.timeout(SLOW)


def looked(one: TrainSpec, **fields: Any) -> dict[str, Any]:
    report = run(replace(one, mode="dry", **fields)).one(Looked).report
    # It is kept as JSON.
    return json.loads(json.dumps(report))


def test_the_report_says_what_the_run_then_does(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()
    real = spec(tmp_path, random_model, rows[:50], rows[50:60], epochs=2, save_steps=1000)
    report = looked(real)
    told = run(real)
    started = told.one(Started)
    assert report["steps"] == started.total_steps == 14
    assert report["tokens"] == started.settings["tokens_an_epoch"]
    assert report["tokens_in_all"] == told.curve("trained_tokens")[-1]
    for name, value in report["settings"].items():
        assert started.settings[name] == value, name
    assert report["rows"] == report["sampled"] == 50
    assert report["validation_rows"] == 10
    assert report["lengths"]["p50"] <= report["lengths"]["p99"] <= report["lengths"]["most"]
    assert report["time"]["measured_steps"] == 3
    each = report["time"]["seconds_a_step"]
    assert report["time"]["seconds"] == pytest.approx(14 * each)
    assert 0 < report["memory"]["measured"] < 64 * 1024**3
    written = sum(
        path.stat().st_size
        for path in (tmp_path / "checkpoints" / "checkpoint-14").iterdir()
        if path.suffix in (".safetensors", ".pt")
    )
    assert written < report["disk"]["checkpoint"] < written + 25 * 1024**2
    assert report["disk"]["free"] > report["disk"]["needed"] > 0


def test_examples_show_which_text_is_learned(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()[:10]
    report = looked(spec(tmp_path, random_model, rows), measured_steps=0)
    assert len(report["examples"]) == 3
    for example, row in zip(report["examples"], rows, strict=False):
        learned = "".join(run["text"] for run in example["runs"] if run["loss"])
        rest = "".join(run["text"] for run in example["runs"] if not run["loss"])
        assert learned == row["messages"][1]["content"] + "<|im_end|>"
        assert row["messages"][0]["content"] in rest
        assert example["learned"] < example["tokens"]
        assert not example["cut_off"]


def test_what_may_go_wrong_is_said_with_what_to_do(tmp_path: Path, random_model: Path) -> None:
    rows = [chat("Say much.", "sun moon " * 90), chat("Ask much. " * 90, "no"), *rotations()[:6]]
    report = looked(
        spec(tmp_path, random_model, rows, max_length=64, epochs=1, keep_checkpoints=100),
        measured_steps=0,
    )
    text = "\n".join(report["warnings"])
    assert report["truncated"] == pytest.approx(1 / 7)
    assert report["dropped"] == 1
    for word in ("14%", "max_length", "1 rows", "1 steps", "validation rows"):
        assert word in text
    # The first example is one of those that are cut off.
    assert report["examples"][0]["cut_off"]


def test_too_much_for_this_machine_is_seen(tmp_path: Path, random_model: Path) -> None:
    row = chat("Say much.", "sun moon " * 2_000)
    huge = spec(tmp_path, random_model, [row] * 16, batch_size=4096, max_length=4_000)
    report = looked(huge, measured_steps=0)
    assert report["memory"]["total"] > report["memory"]["available"]
    assert any("batch_size" in warning for warning in report["warnings"])
    # What fits is found, and the rows of a step stay the same.
    fits = looked(replace(huge, options=huge.options | {"batch_size": "auto"}), measured_steps=0)
    found = fits["settings"]
    assert found["batch_size"] * found["gradient_accumulation"] == 16


def test_of_many_rows_some_are_read(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.engines.dry_run.MOST_ROWS", 20)
    rows = rotations()[:100]
    report = looked(spec(tmp_path, random_model, rows, epochs=1), measured_steps=0)
    assert (report["rows"], report["sampled"]) == (100, 20)
    assert report["steps"] == 13
    everything = looked(spec(tmp_path, random_model, rows[:100:5], epochs=1), measured_steps=0)
    assert report["tokens"] == 5 * everything["tokens"]


def test_what_would_end_the_training_ends_the_dry_run(tmp_path: Path, random_model: Path) -> None:
    one = spec(tmp_path, random_model, rotations()[:8], lora_targets="q_proj,nothing")
    event = failed(replace(one, mode="dry"))
    assert event.code == "invalid_option"
    assert "nothing" in event.message
    assert "q_proj" in event.message


def test_the_formula_knows_what_takes_memory() -> None:
    """Llama 3.1 8B: 16 GB of weights in bfloat16; trained whole, 16 bytes a weight."""
    shape = Shape.of(
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "tie_word_embeddings": False,
        }
    )
    assert shape.parameters == pytest.approx(8.03e9, rel=0.01)
    given = {"dtype": "bfloat16", "batch": 1, "length": 1024, "gpu": True}
    full = estimate(shape, adapter="full", **given)
    assert full.weights + full.gradients + full.optimizer == 16 * shape.parameters
    small = Shape(
        parameters=shape.parameters,
        trainable=42_000_000,
        hidden=4096,
        layers=32,
        intermediate=14336,
        vocabulary=128256,
    )
    lora = estimate(small, adapter="lora", **given)
    assert 15e9 < lora.weights < 17e9
    assert estimate(small, adapter="qlora", **given).weights < 5e9
    assert lora.total < full.total / 4
    less = estimate(small, adapter="lora", checkpointing=True, **given)
    assert less.activations < lora.activations / 4
    twice = estimate(small, adapter="lora", **{**given, "batch": 2})
    assert twice.activations > 1.5 * lora.activations
