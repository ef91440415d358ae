"""`manage.py llm_generate`: a file of prompts in, a file of answers out, whatever comes between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from llm.batch.answers_file import AnswersFile
from llm.batch.prompts import Defaults, read_prompts
from llm.models import LanguageModel
from mlops import tracking
from mlops.exceptions import ApplicationError

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engine")]


@pytest.fixture(autouse=True)
def untracked(settings: LazySettings) -> Iterator[None]:
    settings.MLFLOW_TRACKING_URI = "none"
    tracking.tracker.cache_clear()
    yield
    tracking.tracker.cache_clear()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path


def generate(place: Path, lines: list[Any] | None, *more: str) -> dict[str, Any]:
    """The figures, with the exit status as `status`."""
    if lines is not None:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (place / "prompts.jsonl").write_text("\n".join(texts) + "\n")
    out, arguments = StringIO(), [f"--input={place}/prompts.jsonl", f"--out={place}/answers.jsonl"]
    if not any(one.startswith("--model") for one in more):
        arguments.append(f"--model={place}/model")
    status: int | str | None = 0
    try:
        call_command("llm_generate", *arguments, "--engine=fake", "--json", *more, stdout=out)
    except SystemExit as ended:
        status = ended.code
    return {**json.loads(out.getvalue()), "status": status}


def answers(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]


def text_of(line: dict[str, Any]) -> str:
    choice = line["response"]["body"]["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def test_lines_of_every_form(place: Path) -> None:
    figures = generate(
        place,
        [
            "plain text here",
            '"a text as JSON"',
            {"prompt": "written on", "max_tokens": 1},
            {"messages": [{"role": "user", "content": "said so"}], "custom_id": "mine"},
            {
                "custom_id": "theirs",
                "method": "POST",
                "url": "/v1/completions",
                "body": {"model": "whatever", "prompt": "from a batch"},
            },
            {"input": ["to a vector"]},
        ],
    )
    assert (figures["status"], figures["answered"], figures["failed"]) == (0, 6, 0)
    found = {line["index"]: line for line in answers(place)}
    texts = [text_of(found[index]) for index in range(5)]
    assert texts == ["plain text here", "a text as JSON", "written ", "said so", "from a batch"]
    assert (found[3]["custom_id"], found[4]["custom_id"]) == ("mine", "theirs")
    assert found[4]["response"]["body"]["model"] == f"{place}/model"
    assert len(found[5]["response"]["body"]["data"][0]["embedding"]) == 8
    assert len({line["custom_id"] for line in found.values()}) == 6
    assert figures["completion_tokens"] == 3 + 4 + 1 + 2 + 3


def test_texts_as_messages_with_a_system(place: Path) -> None:
    generate(place, ["hello", {"prompt": "you", "temperature": 0.5}], "--system=Be brief.")
    for line in answers(place):
        body = line["response"]["body"]
        assert body["object"] == "chat.completion"
        assert body["usage"]["prompt_tokens"] == 3, "two words of the system and one of the user"


def test_sampling_is_of_lines_without_their_own(place: Path) -> None:
    (place / "prompts.jsonl").write_text('"x"\n{"prompt": "y", "seed": 7}\n')
    defaults = Defaults("m", options={"seed": 1, "temperature": 0.0})
    first, second = (prompt.call(defaults).body for prompt in read_prompts(place / "prompts.jsonl"))
    assert (first.seed, first.temperature) == (1, 0.0)
    assert (second.seed, second.temperature) == (7, 0.0)


def test_answers_that_follow_a_schema(place: Path) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
    (place / "schema.json").write_text(json.dumps(schema))
    lines = ["a prompt", {"messages": [{"role": "user", "content": "a message"}]}]
    generate(place, lines, f"--schema={place}/schema.json")
    assert [json.loads(text_of(line)) for line in answers(place)] == [{"total": 7}] * 2
    (place / "schema.json").write_text('{"type": "nonsense"}')
    with pytest.raises(CommandError, match="schema"):
        generate(place, None, f"--schema={place}/schema.json")


def test_lines_that_fail_are_named_and_tried_again(place: Path) -> None:
    lines = ["fine", "{broken", {"custom_id": "x"}, {"prompt": "long " * 2000}, "also fine"]
    figures = generate(place, lines)
    assert (figures["status"], figures["answered"], figures["failed"]) == (1, 2, 3)
    errors = {
        line["index"]: line["response"]["body"]["error"]
        for line in answers(place)
        if line["response"]["status_code"] != 200
    }
    assert sorted(errors) == [1, 2, 3]
    assert (errors[1]["code"], errors[3]["code"]) == ("bad_line", "context_length_exceeded")
    lines[1], lines[2], lines[3] = "mended", "also mended", "short"
    again = generate(place, lines)
    assert (again["status"], again["answered"], again["skipped"]) == (0, 3, 2)
    assert sorted(line["index"] for line in answers(place)) == [0, 1, 2, 3, 4]


def test_it_goes_on_where_it_was(place: Path) -> None:
    generate(place, [f"text {n}" for n in range(10)])
    whole = (place / "answers.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    # As a crash leaves it: the last line torn.
    (place / "answers.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:30])
    figures = generate(place, None)
    assert (figures["answered"], figures["skipped"]) == (6, 4)
    assert (place / "answers.jsonl").read_bytes().startswith(b"".join(lines[:4]))
    found = answers(place)
    assert sorted(line["index"] for line in found) == list(range(10))
    assert [text_of(line) for line in sorted(found, key=lambda one: one["index"])] == [
        f"text {n}" for n in range(10)
    ]
    assert generate(place, None)["answered"] == 0
    assert generate(place, None, "--force")["answered"] == 10


def test_a_line_that_was_changed_is_a_new_one(place: Path) -> None:
    generate(place, ["one", "two"])
    figures = generate(place, ["one", "three"])
    assert (figures["answered"], figures["skipped"]) == (1, 1)


def test_an_id_that_is_there_twice(place: Path) -> None:
    figures = generate(place, [{"prompt": str(n), "custom_id": "same"} for n in range(2)])
    assert (figures["answered"], figures["failed"]) == (1, 1)


def test_models_with_a_row_and_adapters(place: Path) -> None:
    base = LanguageModel.objects.create(name="tiny", engine="fake", source="somewhere")
    LanguageModel.objects.create(name="tuned", base=base, source=str(place), engine="fake")
    generate(place, ["hello"], "--model=tuned", "--chat")
    assert [text_of(line) for line in answers(place)] == ["tuned: hello"]


def test_what_is_not_there(place: Path) -> None:
    with pytest.raises(CommandError, match="no file"):
        call_command("llm_generate", "--model=x", "--input=nothing", "--out=out")
    with pytest.raises(CommandError, match="no readable weights"):
        generate(place, ["x"], "--model=a-damaged-one")
    with pytest.raises(CommandError, match="no engine 'other'"):
        generate(place, ["x"], "--engine=other")


def test_a_run_is_logged_unless_turned_off(place: Path, settings: LazySettings) -> None:
    from mlflow import MlflowClient

    settings.MLFLOW_TRACKING_URI = f"sqlite:///{place}/mlflow.db"
    settings.MLFLOW_ARTIFACTS = str(place / "artifacts")
    tracking.tracker.cache_clear()
    generate(place, ["one two", "three"], "--no-mlflow")
    assert not (place / "mlflow.db").exists()
    generate(place, None, "--force", "--temperature=0.5")
    client = MlflowClient(tracking_uri=settings.MLFLOW_TRACKING_URI)
    experiment = client.get_experiment_by_name("llm")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["completed"] == 2 and run.data.metrics["completion_tokens"] == 3
    assert run.data.params["temperature"] == "0.5" and run.info.status == "FINISHED"


def test_only_whole_answers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    good = {"custom_id": "a", "response": {"status_code": 200, "body": {}}}
    bad = {"custom_id": "b", "response": {"status_code": 400, "body": {}}}
    rows = [json.dumps(good), json.dumps(bad), "garbage", json.dumps(good)]
    path.write_text("\n".join(rows) + "\n" + json.dumps(good | {"custom_id": "torn"}))
    with AnswersFile(path) as out:
        assert out.done == {"a"}
        out.add(good | {"custom_id": "c"})
    assert [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] == ["a", "c"]
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_line_for_an_endpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"url": "/v1/images", "body": {}}')
    [prompt] = read_prompts(tmp_path / "x")
    with pytest.raises(ApplicationError, match="/v1/embeddings"):
        prompt.call(Defaults("m"))
