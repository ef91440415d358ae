"""Formats are told by their content and come out in one canonical form each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune.content.writer import ContentWriter
from finetune.intake import Intake, IntakeOptions, take_in
from finetune.reading import open_source
from mlops.exceptions import ApplicationError
from tests.finetune.made import chat, chats, picture, write_lines, write_zip


def taken(path: Path, folder: Path, **options: Any) -> tuple[Intake, list[dict[str, Any]]]:
    """The intake, and the rows that were stored."""
    folder.mkdir()
    found = take_in(open_source(path), IntakeOptions(**options), folder=folder)
    rows = []
    for shard in sorted(folder.glob("rows-*.jsonl.gz")):
        with gzip.open(shard, "rt", encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return found, rows


def rows_of(path: Path, tmp_path: Path, name: str) -> list[dict[str, Any]]:
    """The canonical rows of a file that must be of this format, without a bad row."""
    found, rows = taken(path, tmp_path / "stored")
    assert found.format.name == name
    assert found.report["rows_bad"] == 0, found.report["problems"]
    assert found.index is not None and found.index.rows == len(rows)
    return rows


ASKED, ANSWERED = "What is the tallest tree?", "A coast redwood."
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": "tree"}'}}
SAME = chat(ASKED, ANSWERED)

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("messages", SAME, SAME),
    (
        "messages",
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": ASKED}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "redwood"},
                {"role": "assistant", "content": ANSWERED, "weight": 1},
            ],
            "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}],
        },
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": ASKED},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "find", "arguments": {"q": "tree"}},
                        }
                    ],
                },
                {"role": "tool", "content": "redwood", "tool_call_id": "c1"},
                {"role": "assistant", "content": ANSWERED, "weight": 1},
            ],
            "tools": [{"type": "function", "function": {"name": "find", "parameters": {}}}],
        },
    ),
    (
        "sharegpt",
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": ASKED},
                {"from": "gpt", "value": ANSWERED},
            ],
        },
        {"messages": [{"role": "system", "content": "Be brief."}, *SAME["messages"]]},
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": ASKED},
                {"from": "function_call", "value": '{"name": "find", "arguments": {"q": "x"}}'},
                {"from": "observation", "value": "redwood"},
                {"from": "gpt", "value": ANSWERED},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": ASKED},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "type": "function",
                            "function": {"name": "find", "arguments": {"q": "x"}},
                        }
                    ],
                },
                {"role": "tool", "content": "redwood"},
                {"role": "assistant", "content": ANSWERED},
            ]
        },
    ),
    ("alpaca", {"instruction": ASKED, "input": "", "output": ANSWERED}, SAME),
    (
        "alpaca",
        {"instruction": "Translate.", "input": "나무", "output": "tree", "history": [["a", "b"]]},
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "Translate.\n\n나무"},
                {"role": "assistant", "content": "tree"},
            ]
        },
    ),
    (
        "prompt-completion",
        {"prompt": ASKED, "completion": ANSWERED},
        {"prompt": ASKED, "completion": ANSWERED},
    ),
    (
        "prompt-completion",
        {"question": ASKED, "answer": ANSWERED},
        {"prompt": ASKED, "completion": ANSWERED},
    ),
    (
        "prompt-completion-messages",
        {"prompt": SAME["messages"][:1], "completion": SAME["messages"][1:]},
        SAME,
    ),
    ("text", {"text": "A page of prose."}, {"text": "A page of prose."}),
    (
        "preference",
        {"prompt": ASKED, "chosen": ANSWERED, "rejected": "An oak."},
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "chosen": [{"role": "assistant", "content": ANSWERED}],
            "rejected": [{"role": "assistant", "content": "An oak."}],
        },
    ),
    (
        "preference",
        {"chosen": SAME["messages"], "rejected": chat(ASKED, "An oak.")["messages"]},
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "chosen": [{"role": "assistant", "content": ANSWERED}],
            "rejected": [{"role": "assistant", "content": "An oak."}],
        },
    ),
    (
        "preference",
        {
            "chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {ANSWERED}",
            "rejected": f"\n\nHuman: {ASKED}\n\nAssistant: An oak.",
        },
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "chosen": [{"role": "assistant", "content": ANSWERED}],
            "rejected": [{"role": "assistant", "content": "An oak."}],
        },
    ),
    (
        "preference-openai",
        {
            "input": {"messages": SAME["messages"][:1]},
            "preferred_output": SAME["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "An oak."}],
        },
        {
            "prompt": [{"role": "user", "content": ASKED}],
            "chosen": [{"role": "assistant", "content": ANSWERED}],
            "rejected": [{"role": "assistant", "content": "An oak."}],
        },
    ),
]


@pytest.mark.parametrize(("name", "given", "canonical"), CASES, ids=[case[0] for case in CASES])
def test_each_format_has_one_canonical_form(
    name: str, given: dict[str, Any], canonical: dict[str, Any], tmp_path: Path
) -> None:
    # The file's name says nothing.
    path = write_lines(tmp_path / "upload", [given])
    assert rows_of(path, tmp_path, name) == [canonical]


def test_the_same_rows_out_of_every_container(tmp_path: Path) -> None:
    rows = chats(700)
    plain = write_lines(tmp_path / "a", rows)
    packed = tmp_path / "b"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zstd = tmp_path / "c"
    with pa.CompressedOutputStream(str(zstd), "zstd") as file:
        file.write(plain.read_bytes())
    listed = tmp_path / "d"
    listed.write_text(json.dumps(rows, indent=1))
    wrapped = tmp_path / "e"
    wrapped.write_text(json.dumps({"note": 1, "data": rows}).replace('"note": 1, ', ""))
    parquet = tmp_path / "f"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    found = {}
    for path in (plain, packed, zstd, listed, wrapped, parquet):
        intake, _rows = taken(path, tmp_path / f"stored-{path.name}")
        found[intake.report["container"]] = intake.index.sha256
    assert list(found) == ["jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet"]
    # The same rows are the same content, wherever they came from.
    assert len(set(found.values())) == 1


def test_json_in_pieces_that_cut_characters_and_rows(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("finetune.reading.files.HEAD", 64)
    monkeypatch.setattr("finetune.reading.byte_streams.Bytes.read", _small_reads())
    rows = [chat(f"질문 {n} {'가나다' * n}", f"대답 {n}") for n in range(40)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"train": rows[:30], "test": rows[30:]}, ensure_ascii=False))
    found, stored = taken(path, tmp_path / "stored")
    assert stored == rows
    assert {name: one["rows"] for name, one in found.report["splits"].items()} == {
        "train": 30,
        "validation": 0,
        "test": 10,
    }


def _small_reads() -> Any:
    def read(self: Any, size: int = 0) -> bytes:
        return self._stream.read(61)

    return read


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
def test_csv_with_quotes_and_line_breaks(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    text = 'prompt,completion\r\n"어디, 가요?","역으로\r\n가요"\r\n"a ""b""",c\r\n'
    path.write_bytes(text.encode(encoding))
    found, rows = taken(path, tmp_path / "stored")
    assert rows == [
        {"prompt": "어디, 가요?", "completion": "역으로\r\n가요"},
        {"prompt": 'a "b"', "completion": "c"},
    ]
    assert found.report["container"] == "csv"
    assert any("CP949" in note for note in found.report["notes"]) == (encoding == "cp949")


def test_tsv_with_messages_as_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(f"messages\tnote\n{json.dumps(SAME['messages'])}\tx\n")
    assert rows_of(path, tmp_path, "messages") == [SAME]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("One line.\nAnother one.\n", ["One line.", "Another one."]),
        ("First\nparagraph.\n\n\nSecond.\n", ["First\nparagraph.", "Second."]),
        ("[Chapter 1]\nIt rained.\n", ["[Chapter 1]", "It rained."]),
    ],
)
def test_plain_text(tmp_path: Path, text: str, rows: list[str]) -> None:
    path = tmp_path / "prose.txt"
    path.write_text(text)
    assert [row["text"] for row in rows_of(path, tmp_path, "text")] == rows


PICTURES = {f"page{n // 2}_line_{n}.png": f"line {n}" for n in range(6)}


def labels(form: str) -> dict[str, bytes | str]:
    """Pictures of lines with labels as EasyOCR, PaddleOCR and Tesseract's trainer have them."""
    if form == "easyocr":
        rows = "".join(f'{name},"{text}"\n' for name, text in PICTURES.items())
        files: dict[str, bytes | str] = {"set/labels.csv": f"filename,words\n{rows}"}
        return files | {f"set/{name}": picture(text) for name, text in PICTURES.items()}
    if form == "paddleocr":
        rows = "".join(f"crops/{name}\t{text}\n" for name, text in PICTURES.items())
        return {"rec_gt.txt": rows} | {
            f"crops/{name}": picture(text, "BMP") for name, text in PICTURES.items()
        }
    if form == "jsonl":
        rows = "".join(
            json.dumps({"image": name, "text": text}) + "\n" for name, text in PICTURES.items()
        )
        return {"metadata.jsonl": rows} | {n: picture(t, "JPEG") for n, t in PICTURES.items()}
    pairs: dict[str, bytes | str] = {}
    for name, text in PICTURES.items():
        pairs |= {name: picture(text), name.replace(".png", ".gt.txt"): f"{text}\n"}
    return pairs


@pytest.mark.parametrize("form", ["easyocr", "paddleocr", "jsonl", "pairs"])
def test_pictures_of_lines(tmp_path: Path, form: str) -> None:
    path = write_zip(tmp_path / "lines", labels(form))
    rows = rows_of(path, tmp_path, "ocr-lines")
    assert [row["text"] for row in rows] == list(PICTURES.values())
    media = {"paddleocr": "image/png", "jsonl": "image/jpeg"}.get(form, "image/png")
    assert {row["media_type"] for row in rows} == {media}
    assert rows[0]["width"] == 12 * len("line 0") and rows[0]["height"] == 32
    # Lines of a page share a group.
    assert len({row["group"] for row in rows}) == 3
    assert rows[0]["group"] == rows[1]["group"] != rows[2]["group"]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_lines(folder / "train.jsonl", chats(8))
    write_lines(folder / "val.jsonl", chats(3, 100))
    write_lines(folder / "test.jsonl", chats(2, 200))
    found, _rows = taken(folder, tmp_path / "stored")
    assert found.report["split_given"]
    assert [one["rows"] for one in found.report["splits"].values()] == [8, 3, 2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\xff\xfe{\x00}\x00", "UTF-16"),
        (b"\x00\x01\x02", "none of JSONL"),
        (b'[{"a": 1}, {"a"', "breaks off near line 1"),
        (b'{"colour": "red", "size": 3}\n', "'colour', 'size'"),
        (b"PK\x03\x04 and no zip", "zip can't be read"),
        (b"\x1f\x8b broken", "gz packing"),
        (b"PAR1 broken", "Parquet file can't be read"),
    ],
)
def test_what_is_no_dataset_is_refused_with_a_reason(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(ApplicationError, match=says):
        take_in(open_source(path), IntakeOptions())


def test_a_line_without_an_end_is_not_held_in_memory(tmp_path: Path, monkeypatch: Any) -> None:
    for place in ("byte_streams", "json_rows"):
        monkeypatch.setattr(f"finetune.reading.{place}.LONGEST_LINE", 3 * 1024 * 1024)
    huge = json.dumps(chat("x" * 5_000_000, "y"))
    path = write_lines(tmp_path / "rows", [*chats(3), huge, *chats(3, 50)])
    found, rows = taken(path, tmp_path / "stored")
    assert rows == [*chats(3), *chats(3, 50)]
    assert found.report["bad_lines"] == [4]
    assert found.report["problems"][0]["code"] == "too_large"


def test_the_same_rows_are_stored_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        writer = ContentWriter(tmp_path / name, "text")
        for n in range(1000):
            writer.add(b'{"text":"row %d"}' % n)
        index = writer.finish()
        assert index.rows == 1000 and len(index.shards[0].starts) == 4
    packed = [(tmp_path / name / "rows-00000.jsonl.gz").read_bytes() for name in ("one", "two")]
    assert packed[0] == packed[1]
