"""Supervised fine-tuning: really learned, really served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetune.engines.base import RESULT, Finished, Looked, Metrics, Notice, Saved, Started, Stopped
from finetune.engines.checkpoints import COMPLETE
from llm.engines.base import AdapterSource, GenerationRequest, Sampling
from llm.sources import loadable
from llm.tiny import random_model as random_model_of
from tests.finetune.engines.runs import SLOW, chat, failed, rotations, run, spec
from tests.llm.engine_runs import load, run_all

pytestmark = pytest.mark.timeout(SLOW)
GREEDY = Sampling(max_tokens=16, temperature=0.0)


@pytest.mark.timeout(600)
def test_a_task_is_learned_by_an_adapter_and_served(tmp_path: Path, trained_model: Path) -> None:
    rows = rotations()
    train, unseen = rows[:80], rows[80:]
    told = run(
        spec(
            tmp_path,
            trained_model,
            train,
            unseen[:8],
            epochs=20,
            batch_size=16,
            learning_rate=3e-3,
            save_steps=1000,
        )
    )
    finished = told.one(Finished)
    assert finished.parity["fit"], finished.parity
    adapter = loadable(tmp_path / RESULT)
    assert (adapter / "adapter_model.safetensors").stat().st_size < 3_000_000
    assert not list((tmp_path / RESULT).rglob("model.safetensors")), "the base's weights went along"
    model = load(trained_model)
    try:
        runs = run_all(
            model,
            [
                GenerationRequest(
                    id=str(n),
                    messages=row["messages"][:1],
                    adapter=AdapterSource("rotate", str(adapter)) if adapted else None,
                    sampling=GREEDY,
                )
                for adapted in (False, True)
                for n, row in enumerate(unseen)
            ],
        )
    finally:
        model.close()
    answers = [row["messages"][1]["content"] for row in unseen]
    right = [run.text() == answer for run, answer in zip(runs, answers * 2, strict=True)]
    before, after = sum(right[: len(unseen)]), sum(right[len(unseen) :])
    assert before < 0.1 * len(unseen)
    assert after > 0.9 * len(unseen)


def test_events_tell_the_curves_and_the_checkpoints(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()
    told = run(spec(tmp_path, random_model, rows[:40], rows[40:56], epochs=2, save_steps=2))
    started = told.one(Started)
    assert (started.total_steps, started.start_step) == (10, 0)
    assert started.settings["batch_size"] == 8
    assert started.settings["learning_rate"] == 2e-4
    assert 0 < started.settings["trainable_parameters"] < started.settings["parameters"]
    points = told.all(Metrics)
    assert [point.step for point in points if "loss" in point.values] == list(range(1, 11))
    assert [point.step for point in points if "eval_loss" in point.values] == [5, 10]
    told_of = {"grad_norm", "tokens_per_second", "memory_bytes", "cpu_percent", "learning_rate"}
    assert told_of <= set(points[0].values)
    assert points[0].values["cpu_percent"] > 0
    assert points[-1].epoch == 2.0
    assert told.curve("trained_tokens")[-1] == 2 * started.settings["tokens_an_epoch"]
    saved = told.all(Saved)
    assert [one.step for one in saved] == [2, 4, 5, 6, 8, 10]
    left = {path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")}
    removed = {name for one in saved for name in one.removed}
    assert left | removed == {one.name for one in saved}
    assert not left & removed
    assert {"checkpoint-8", "checkpoint-10"} <= left
    assert all((tmp_path / "checkpoints" / name / COMPLETE).is_file() for name in left)


def test_all_weights_are_trained_and_kept(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()[:32]
    told = run(spec(tmp_path, random_model, rows, max_steps=4, adapter="full", learning_rate=1e-3))
    started, finished = told.one(Started), told.one(Finished)
    assert started.settings["trainable_parameters"] == started.settings["parameters"]
    assert finished.facts["kind"] == "model"
    assert finished.parity["fit"], finished.parity
    folder = loadable(tmp_path / RESULT)
    assert (folder / "model.safetensors").is_file()
    model = load(folder)
    model.close()


def test_packed_rows_learn_as_many_a_step(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()[:64]
    plain = run(spec(tmp_path / "plain", random_model, rows, rows[:8], epochs=1, packing="off"))
    packed = run(spec(tmp_path / "packed", random_model, rows, rows[:8], epochs=1, packing="on"))
    assert packed.one(Started).settings["packing"] is True
    steps = [told.one(Started).total_steps for told in (plain, packed)]
    assert abs(steps[0] - steps[1]) <= 2
    # The same rows, unpacked in both: rows of one sequence must not see each other.
    losses = [told.curve("eval_loss")[-1] for told in (plain, packed)]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_a_prompt_with_its_completion_needs_no_template(tmp_path: Path, random_model: Path) -> None:
    rows = [{"prompt": f"{n} is ", "completion": f"number {n}"} for n in range(32)]
    told = run(spec(tmp_path, random_model, rows, max_steps=3, learning_rate=1e-3))
    assert told.one(Finished).parity["fit"]


def test_text_is_read_on_whole(tmp_path: Path, random_model: Path) -> None:
    rows = [{"text": "the sun is on the moon and the star is in the rain " * 8}] * 8
    told = run(spec(tmp_path, random_model, rows, method="cpt", epochs=1, max_length=32))
    started = told.one(Started)
    per_row = started.settings["tokens_an_epoch"] / 8
    assert per_row > 90, "cut off at max_length"
    assert told.one(Finished).trained_tokens == started.settings["tokens_an_epoch"]


def test_it_stops_when_asked_and_leaves_a_checkpoint(tmp_path: Path, random_model: Path) -> None:
    told = run(spec(tmp_path, random_model, rotations()[:64], epochs=9, save_steps=50), stop_at=3)
    stopped = told.one(Stopped)
    assert 3 <= stopped.step <= 4
    assert told.one(Saved).step == stopped.step
    assert not told.all(Finished)


def test_it_stops_early_and_keeps_the_best(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()
    # Answers of the validation rows are wrong: the better the others are learned, the worse.
    wrong = [chat(row["messages"][0]["content"], "fire fire fire") for row in rows[:16]]
    told = run(
        spec(
            tmp_path,
            random_model,
            rows[:64],
            wrong,
            epochs=40,
            learning_rate=1e-2,
            eval_steps=4,
            early_stopping=2,
            save_steps=1000,
        )
    )
    finished, curve = told.one(Finished), told.curve("eval_loss")
    assert len(curve) < 80
    best = curve.index(min(curve))
    assert finished.step == 4 * (best + 1)
    assert len(curve) == best + 3
    assert finished.parity["fit"]
    assert (tmp_path / "checkpoints" / f"checkpoint-{finished.step}").is_dir()
    # What is left is the best step's, not the last one's.
    result = loadable(tmp_path / RESULT) / "adapter_model.safetensors"
    kept = tmp_path / "checkpoints" / f"checkpoint-{finished.step}" / "adapter_model.safetensors"
    assert result.read_bytes() == kept.read_bytes()


def test_it_begins_with_the_weights_of_another_run(tmp_path: Path, random_model: Path) -> None:
    rows = rotations()[:32]
    first = spec(tmp_path / "a", random_model, rows, rows[:8], epochs=6, learning_rate=5e-3)
    before = run(first).curve("eval_loss")
    checkpoint = tmp_path / "a" / "checkpoints" / "checkpoint-24"
    second = spec(
        tmp_path / "b",
        random_model,
        rows,
        rows[:8],
        max_steps=1,
        learning_rate=1e-5,
        given={"begin_with": str(checkpoint)},
    )
    after = run(second).curve("eval_loss")
    assert before[-1] < before[0]
    assert after[0] == pytest.approx(before[-1], abs=0.02)
    # An adapter that is a base itself is gone on with, too, on the base below it.
    third = replace(second, folder=str(tmp_path / "b"), base=str(loadable(tmp_path / "a" / RESULT)))
    told = run(replace(third, begin_with=""))
    assert told.curve("eval_loss")[0] == pytest.approx(before[-1], abs=0.02)
    assert told.one(Finished).parity["fit"]


def test_what_a_model_can_not_read_is_cut_off(tmp_path: Path) -> None:
    """GPT-2's positions have weights of their own: there are none beyond its context."""
    base = random_model_of(tmp_path / "base", architecture="gpt2", context=48, hidden=32)
    rows = [chat(f"Count to {n}.", " ".join(map(str, range(n)))) for n in range(20, 36)]
    whole = spec(tmp_path, base, rows, max_steps=2, max_length=512, adapter="full")
    told = run(whole)
    assert told.one(Finished).parity["fit"]
    assert [notice.message for notice in told.all(Notice) if "48 tokens" in notice.message]
    # The serving engine takes no adapters of such models; that is said before.
    adapter = replace(whole, options=whole.options | {"adapter": "lora"})
    report = run(replace(adapter, mode="dry", measured_steps=0)).one(Looked).report
    assert any("gpt2" in warning for warning in report["warnings"])
    told = run(adapter)
    assert any("gpt2" in notice.message for notice in told.all(Notice))
    found = told.one(Finished).parity
    assert (found["fit"], found["reloaded"]["agree"]) == (False, True)
    assert "adapter" in found["served"]["message"]


def test_rows_too_long_are_told_of(tmp_path: Path, random_model: Path) -> None:
    event = failed(spec(tmp_path, random_model, rotations()[:8], max_length=8))
    assert event.code == "bad_rows"
    assert "max_length" in event.message
