"""What is found to be wrong with a dataset, where, and how it is to be mended."""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from finetune.checks.encoding import mojibake, text_troubles
from finetune.checks.problems import PROBLEMS
from finetune.checks.tally import language_of, token_counter
from finetune.checks.whole import Earlier
from finetune.intake import IntakeOptions, take_in
from finetune.reading import open_source
from finetune.report import Report, trainable
from tests.finetune.made import chat, chats, picture, write_lines, write_zip


def report_of(tmp_path: Path, rows: Iterable[Any], **options: Any) -> Report:
    path = write_lines(tmp_path / "rows", rows)
    return take_in(open_source(path), IntakeOptions(**options)).report


def found(report: Report) -> dict[str, int]:
    return {problem["code"]: problem["count"] for problem in report["problems"]}


def said(report: Report, code: str) -> list[tuple[int, str, str]]:
    """(line, field, message) of the first problems of a kind."""
    examples = next(one for one in report["problems"] if one["code"] == code)["examples"]
    return [(one["line"], one["field"], one["message"]) for one in examples]


def turns(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in messages], **more}


def calling(*after: dict[str, Any], **call: Any) -> dict[str, Any]:
    first: list[dict[str, Any]] = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    return {"messages": [*first, *after]}


DONE = {"role": "assistant", "content": "Done."}
GOOD_CALL = {"id": "c1", "function": {"name": "find", "arguments": "{}"}}

BAD: list[tuple[str, Any, str, str]] = [
    ("not_json", '{"messages": [', "", "line 1 column"),
    ("not_object", "[1, 2]", "", "no JSON object"),
    (
        "not_utf8",
        r'{"messages": [{"role": "user", "content": "\ud800"}, '
        r'{"role": "assistant", "content": "b"}]}',
        "",
        "half a character",
    ),
    ("other_format", {"prompt": "a", "completion": "b"}, "", "looks like prompt and completion"),
    ("missing_field", {"note": "x"}, "messages", "no 'messages'"),
    ("no_messages", {"messages": []}, "messages", "an empty list"),
    ("no_messages", {"messages": 7}, "messages", "a number"),
    ("unknown_role", turns(("narrator", "a"), ("assistant", "b")), "messages[0].role", "narrator"),
    ("not_text", turns(("user", 3), ("assistant", "b")), "messages[0].content", "a number"),
    ("role_order", turns(("assistant", "b")), "messages[0]", "speaks first"),
    (
        "role_order",
        turns(("user", "a"), ("system", "s"), ("assistant", "b")),
        "messages[1]",
        "number 2, not the first",
    ),
    ("ends_wrong", turns(("user", "a")), "messages[0]", "of role user"),
    ("empty_prompt", turns(("user", " "), ("assistant", "b")), "messages[0].content", "empty"),
    ("empty_target", turns(("user", "a"), ("assistant", "\n")), "messages[1].content", "empty"),
    (
        "empty_target",
        {"messages": [{"role": "user", "content": "a"}, {**DONE, "weight": 0}]},
        "messages",
        "weight 0",
    ),
    (
        "tool_call",
        calling(DONE, function={"name": "find", "arguments": "{oops"}),
        "messages[1].tool_calls[0].function.arguments",
        "no JSON object",
    ),
    ("tool_call", calling(DONE, function={}), "messages[1].tool_calls[0]", "does not name"),
    (
        "tool_call",
        calling({"role": "tool", "tool_call_id": "c2", "content": "x"}, DONE, **GOOD_CALL),
        "messages[2].tool_call_id",
        "'c2'",
    ),
    (
        "tool_call",
        turns(("user", "a"), ("tool", "x"), ("assistant", "b")),
        "messages[1]",
        "calls none",
    ),
    ("tool_call", {**chat("a", "b"), "tools": "no list"}, "tools", "no list of tools"),
]


@pytest.mark.parametrize(("code", "row", "field", "message"), BAD)
def test_a_bad_row_is_named_by_line_and_field(
    tmp_path: Path, code: str, row: Any, field: str, message: str
) -> None:
    report = report_of(tmp_path, [*chats(3), row, *chats(2, 50)])
    assert found(report) == {code: 1}
    [(line, where, what)] = said(report, code)
    assert (line, where) == (4, field) and message in what
    assert (report["rows_read"], report["rows"], report["rows_bad"]) == (6, 5, 1)
    assert report["bad_lines"] == [4]
    assert not trainable(report, drop_bad_rows=False) and trainable(report, drop_bad_rows=True)


def test_a_good_call_of_a_tool_is_no_problem(tmp_path: Path) -> None:
    answer = {"role": "tool", "tool_call_id": "c1", "content": "x"}
    rows = [calling(answer, DONE, **GOOD_CALL), calling(**GOOD_CALL), *chats(2)]
    assert found(report_of(tmp_path, rows)) == {}


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("same_answers", {"prompt": "a", "chosen": "b", "rejected": "b"}),
        ("empty_target", {"prompt": "a", "chosen": "", "rejected": "b"}),
        ("not_text", {"prompt": "a", "chosen": "b", "rejected": [3]}),
        ("no_messages", {"prompt": "a", "chosen": "b", "rejected": None}),
        ("missing_field", {"chosen": "b", "rejected": "c"}),
    ],
)
def test_pairs_that_say_nothing(tmp_path: Path, code: str, row: Any) -> None:
    good = [{"prompt": f"q{n}", "chosen": "yes", "rejected": "no"} for n in range(3)]
    assert found(report_of(tmp_path, [*good, row])) == {code: 1}


def test_bad_pictures(tmp_path: Path) -> None:
    labels = "a.png\tone\nb.png\ttwo\nc.png\t \nd.png\tfour\nno tab here\n"
    files: dict[str, Any] = {"rec_gt.txt": labels, "a.png": picture("one"), "b.png": b"no picture"}
    path = write_zip(tmp_path / "z", files | {"c.png": picture("three")})
    report = take_in(open_source(path), IntakeOptions()).report
    assert found(report) == {"bad_image": 1, "columns": 1, "empty_target": 1, "image_missing": 1}
    assert said(report, "image_missing")[0] == (4, "image", "The picture 'd.png' is not there.")


# -- characters -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["안녕하세요", "café", "naïve “quotes”…", "서울역 3번 출구"])
def test_damaged_text_is_recognised_and_whole_text_is_not(text: str) -> None:
    assert mojibake(text) is None
    damaged = text.encode().decode("cp1252", "ignore").encode("cp1252").decode("cp1252")
    assert mojibake(damaged) is not None


def test_korean_read_as_latin() -> None:
    assert mojibake("안녕하세요".encode("cp949").decode("latin-1")) == (
        "¾È³çÇÏ¼¼¿ä",
        "안녕하세요",
    )
    quoted = "“CAFÉ” et “MANHÃ”, «Ã» café…”"
    for whole in ("Fête d\u2019été", quoted, "ÄÖÜ äöü ß", "£5 ½ ¼ µm", "Ærøskøbing", "İıŞş"):
        assert mojibake(whole) is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("control", "a\x00b"),
        ("control", "a\x85b"),
        ("replacement", "caf\ufffd"),
        ("normalisation", unicodedata.normalize("NFD", "한국")),
    ],
)
def test_trouble_with_characters_is_a_warning(tmp_path: Path, code: str, text: str) -> None:
    assert text_troubles("x", "tab\tand\nline") == []
    report = report_of(tmp_path, [*chats(2), chat("What does it say?", text)])
    assert found(report) == {code: 1}
    assert said(report, code)[0][:2] == (3, "messages[1].content")
    assert trainable(report, drop_bad_rows=False)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Plain words", "en"),
        ("오늘은 pandas DataFrame 을 봅니다", "ko"),
        ("これはペンです", "ja"),
        ("這是一支筆", "zh"),
        ("déjà vu", "en"),
        ("12 + 30", "other"),
        ("добрый день", "other"),
    ],
)
def test_language_of_a_row(text: str, language: str) -> None:
    assert language_of(text) == language


# -- over the whole ---------------------------------------------------------------------------


def test_duplicates_and_contradictions(tmp_path: Path) -> None:
    rows = [*chats(5), chat("Is  it OPEN?", "Yes."), chat("is it open?", "yes. "), chats(1)[0]]
    rows.append(chat("Is it open?", "No."))
    report = report_of(tmp_path, rows)
    assert found(report) == {"conflict": 1, "duplicate": 2}
    assert said(report, "duplicate") == [
        (7, "", "The row says the same as line 6."),
        (8, "", "The row says the same as line 1."),
    ]
    assert said(report, "conflict") == [(9, "", "Line 6 answers the same prompt otherwise.")]
    assert trainable(report, drop_bad_rows=False)


def test_pairs_about_one_prompt_don_t_contradict(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": f"good {n}", "rejected": "bad"} for n in range(4)]
    assert found(report_of(tmp_path, rows)) == {}


def test_leaks_between_given_splits_are_dropped(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in chats(6)]
    rows += [{**row, "split": "test"} for row in chats(2, 4)]
    rows += [{**chat("Other?", "x"), "split": "dev"}, {**chat("other?", "y"), "split": "train"}]
    report = report_of(tmp_path, rows)
    assert found(report)["leak"] == 3 and report["errors"] == 3
    assert [line for line, _field, _text in said(report, "leak")] == [5, 6, 10]
    assert "for train, and its prompt stands in test" in said(report, "leak")[0][2]
    assert [one["rows"] for one in report["splits"].values()] == [4, 1, 2]
    assert (report["rows_bad"], report["rows"]) == (3, 7)
    assert not trainable(report, drop_bad_rows=False)


def test_a_named_group_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    rows = [
        {**row, "group": f"g{n % 3}", "split": "test" if n == 0 else "train"}
        for n, row in enumerate(chats(6))
    ]
    report = report_of(tmp_path, rows)
    assert [line for line, _field, _text in said(report, "leak")] == [4]
    assert "its group stands in test" in said(report, "leak")[0][2]


def test_what_an_earlier_version_tests_by_must_not_be_trained_on(tmp_path: Path) -> None:
    from finetune.checks.columns import hash64, normalised
    from finetune.formats import view_of

    tested = chats(2, 3)
    prompts = frozenset(hash64(normalised(view_of("chat", row).prompt)) for row in tested)
    rows = [{**row, "split": "train"} for row in chats(8)]
    rows += [{**row, "split": "test"} for row in chats(2, 100)]
    path = write_lines(tmp_path / "rows", rows)
    earlier = Earlier(number=4, test_prompts=prompts)
    report = take_in(open_source(path), IntakeOptions(), earlier=earlier).report
    assert [line for line, _field, _text in said(report, "leak_earlier")] == [4, 5]
    assert "version 4 tests by it" in said(report, "leak_earlier")[0][2]
    assert report["splits"]["train"]["rows"] == 6


def test_one_big_group_is_told(tmp_path: Path) -> None:
    rows = [{**row, "group": "a" if n < 15 else str(n)} for n, row in enumerate(chats(30))]
    report = report_of(tmp_path, rows)
    assert said(report, "big_group")[0][2] == "One of 16 groups has 50% of the rows."
    assert report["grouped_by"] == "group"


def test_long_rows_and_lengths(tmp_path: Path) -> None:
    rows = [*chats(4), chat("Tell it all.", "word " * 1000)]
    report = report_of(tmp_path, rows, max_tokens=500)
    assert said(report, "too_long")[0][0] == 5
    tokens = report["tokens"]
    assert tokens["approximate"] and 1000 < tokens["max"] < 1500
    assert sum(one["rows"] for one in tokens["histogram"]) == 5
    assert sum(one["rows"] for one in tokens["histogram"][:-1]) == 4
    last = tokens["histogram"][-1]
    assert last["from"] <= tokens["max"] < last["to"] and last["rows"] == 1


def test_a_named_tokenizer_counts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert token_counter(str(tmp_path)).count(["one two  three", ""]) == [3, 0]
    report = report_of(tmp_path, [chat("one two", "three")] * 2, tokenizer=str(tmp_path))
    # The role is a word, too.
    assert report["tokens"]["total"] == 8 and not report["tokens"]["approximate"]


def test_every_problem_is_written_down_and_the_first_are_kept(tmp_path: Path) -> None:
    bad = [turns(("user", f"question {n}"), ("assistant", "")) for n in range(1500)]
    path = write_lines(tmp_path / "rows", [*chats(3), *bad])
    (tmp_path / "out").mkdir()
    report = take_in(open_source(path), IntakeOptions(), folder=tmp_path / "out").report
    [problem] = report["problems"]
    assert (problem["count"], len(problem["examples"])) == (1500, 10)
    assert len(report["bad_lines"]) == 1000 and report["rows_bad"] == 1500
    with gzip.open(tmp_path / "out" / "problems.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    assert [line["line"] for line in lines] == list(range(4, 1504))
    assert lines[0]["mend"] == PROBLEMS["empty_target"].mend
