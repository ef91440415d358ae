"""The import job and what it leaves: versions that don't change, rows that are found again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from finetune import selectors, services
from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.tasks import import_dataset
from finetune.version_files import split_rows, splits_of, version_rows
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from tests.finetune.conftest import Importer, submitted
from tests.finetune.made import chat, chats

pytestmark = pytest.mark.django_db

BAD = {"messages": [{"role": "user", "content": "Nobody answers this."}]}


def files(storage: Path) -> set[str]:
    return {str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()}


def test_an_upload_becomes_a_version(imported: Importer, owner: User, storage: Path) -> None:
    version = imported(chats(40), licence="CC0", description="Trams")
    dataset = version.dataset
    assert (dataset.owner, dataset.kind, str(version)) == (owner, "chat", "trams v1")
    assert (version.state, version.rows, version.rows_bad) == ("ready", 40, 0)
    assert (version.format, version.licence, version.source) == ("messages", "CC0", "rows.jsonl")
    assert sum(version.split_counts.values()) == 40 and all(version.split_counts.values())
    assert version.tokens > 40 and version.tokenizer == ""
    job = version.imported_by
    assert (job.status, job.progress_done, job.progress_total) == ("succeeded", 100, 100)
    # The upload itself is gone: what is kept is the canonical form.
    assert not any("imports" in name for name in files(storage))
    read = [row for split in version.split_counts for row in version_rows(version, split)]
    assert sorted(map(str, read)) == sorted(map(str, chats(40)))


def test_rows_with_errors_are_left_out_by_choice_alone(imported: Importer, owner: User) -> None:
    version = imported([*chats(10), BAD])
    assert (version.state, version.rows, version.rows_bad) == ("invalid", 10, 1)
    assert version.lines_left_out() == [11]
    assert not DatasetVersion.objects.trainable().exists()
    services.bad_rows_drop(version=version, user=owner)
    assert (version.state, version.dropped_by) == ("ready", owner)
    assert DatasetVersion.objects.trainable().get() == version
    with pytest.raises(NotAllowed):
        services.bad_rows_drop(version=version, user=owner)
    chosen = imported([*chats(10), BAD], drop_bad_rows=True)
    assert (chosen.state, chosen.bad_rows_dropped, chosen.number) == ("ready", True, 2)


def test_the_same_rows_are_stored_once_and_go_with_their_last_version(
    imported: Importer,
    storage: Path,
    owner: User,
    django_capture_on_commit_callbacks: Callable[..., AbstractContextManager[Any]],
) -> None:
    one = imported(chats(20))
    first = files(storage)
    two = imported(chats(20), name="again")
    assert one.sha256 == two.sha256 and one.dataset != two.dataset
    new = files(storage) - first
    assert len(new) == 6 and all(f"versions/{two.pk.hex[:2]}/{two.pk}" in name for name in new)
    with django_capture_on_commit_callbacks(execute=True):
        services.version_delete(version=one)
    assert two.sha256 in " ".join(files(storage))
    assert len(selectors.rows_page(two, split="", page=1, size=50).rows) == 20
    with django_capture_on_commit_callbacks(execute=True):
        services.dataset_delete(dataset=two.dataset)
    assert files(storage) == set()
    assert Dataset.objects.get() == one.dataset


def test_a_version_s_test_split_is_in_the_next_one(imported: Importer) -> None:
    first = imported(chats(6), test=0.3, validation=0.2, seed=5)
    second = imported(chats(60), test=0.3, validation=0.2)
    assert (second.number, second.parent, second.seed) == (2, first, 5)
    tests = [{str(row) for row in version_rows(one, "test")} for one in (first, second)]
    assert tests[0] and tests[0] < tests[1]
    assert second.report["errors"] == 0
    # With a smaller share, rows would go from the test into training: that is told and prevented.
    third = imported(chats(60), test=0.01, validation=0.2)
    assert third.state == "invalid"
    assert {one["code"] for one in third.report["problems"]} == {"leak_earlier"}
    trained = {str(row) for row in version_rows(third, "train")}
    assert not trained & tests[1]


def test_another_kind_wants_another_name(imported: Importer, owner: User) -> None:
    version = imported(chats(5))
    job = submitted(owner, [{"text": "prose"}])
    assert import_dataset(str(job.pk))["status"] == "failed"
    job.refresh_from_db()
    assert job.error_code == "another_kind" and "conversations" in job.error
    assert version.dataset.versions.count() == 1


def test_a_failed_import_keeps_its_upload_for_another_try(
    storage: Path, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(owner, chats(5))
    with monkeypatch.context() as broken:
        broken.setattr("finetune.formats.chat.check_order", None)
        assert import_dataset(str(job.pk))["status"] == "failed"
    job.refresh_from_db()
    assert "TypeError" in job.error and Path(job.file.path).exists()
    services.import_retry(job=job)
    assert import_dataset(str(job.pk))["status"] == "succeeded"
    # A message that comes twice finds the work done.
    assert import_dataset(str(job.pk))["status"] == "skipped"
    assert DatasetVersion.objects.count() == 1


def test_cut_off_after_its_version_the_job_makes_no_other(imported: Importer) -> None:
    version = imported(chats(5))
    Job.objects.filter(pk=version.imported_by.pk).update(status="queued")
    assert import_dataset(str(version.imported_by.pk))["status"] == "succeeded"
    assert DatasetVersion.objects.count() == 1


def test_a_cancel_is_seen_while_rows_are_read(
    storage: Path, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.dataset_import.LOOK_SECONDS", 0)
    job = submitted(owner, chats(1000))
    seen = []

    def cancel_once(context: Any, done: int, total: int) -> None:
        seen.append((done, total))
        Job.objects.filter(pk=job.pk).update(cancel_requested=True)

    monkeypatch.setattr("mlops.jobs.JobContext.progress", cancel_once)
    assert import_dataset(str(job.pk))["status"] == "cancelled"
    assert len(seen) == 1 and seen[0][1] == 100
    assert not DatasetVersion.objects.exists()


def test_a_hub_out_of_reach_is_an_error_that_says_so(
    storage: Path, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    job = services.dataset_import(owner=owner, name="hub", hub="hub:some/dataset")
    assert import_dataset(str(job.pk))["status"] == "failed"
    job.refresh_from_db()
    assert job.error_code in ("hub_unreachable", "engine_unavailable")
    assert "requirements/finetune.txt" in job.error or "upload it" in job.error


@pytest.mark.parametrize(
    "hub", ["../etc", "csv", "hub:/etc", "tests/finetune", "a/b/c", "hub:a/.."]
)
def test_a_path_of_the_worker_is_no_hub_name(storage: Path, owner: User, hub: str) -> None:
    """The hub's library would read a folder of this machine that has the name asked for."""
    with pytest.raises(ApplicationError) as caught:
        services.dataset_import(owner=owner, name="x", hub=hub)
    assert caught.value.code == "bad_hub_name"
    assert not DatasetImport.objects.exists()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"format": "morse"}, "format"),
        ({"validation": 0.6, "test": 0.5}, "splits"),
        ({"tokenizer": "no such model"}, "tokenizer"),
        ({"seed": -1}, "seed"),
        ({"hub": "also/this"}, "file"),
        ({"name": " "}, "name"),
    ],
)
def test_options_are_refused_before_anything_is_stored(
    storage: Path, owner: User, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        submitted(owner, chats(2), **options)
    assert caught.value.param == param
    assert not DatasetImport.objects.exists() and not Dataset.objects.exists()
    assert files(storage) == set()


# -- rows are found again ---------------------------------------------------------------------


@pytest.fixture
def many(imported: Importer) -> DatasetVersion:
    """Rows over several blocks, with a Korean one and a quoted one among them."""
    rows = chats(900)
    rows[321] = chat("어느 정류장에서 내리나요?", '표지판에 "서울역" 이라고 써 있습니다.')
    return imported(rows, test=0.1, validation=0.1)


def test_pages_of_rows(many: DatasetVersion) -> None:
    page = selectors.rows_page(many, split="", page=18, size=50)
    assert page.total == 900
    assert [row.number for row in page.rows] == list(range(850, 900))
    assert page.rows[0].row == chats(1, 850)[0] and page.rows[0].line == 851
    splits = splits_of(many)
    for split, number in (("train", 1), ("validation", 2), ("test", 3)):
        wanted = [row for row in range(900) if splits[row] == number]
        assert split_rows(many, split) == wanted
        second = selectors.rows_page(many, split=split, page=2, size=20)
        assert [row.number for row in second.rows] == wanted[20:40]
        assert {row.split for row in second.rows} == {split}
    assert selectors.rows_page(many, split="", page=19, size=50).rows == []


def test_words_are_found(many: DatasetVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(words: str, **how: Any) -> list[int]:
        given = {"split": "", "start": 0, "size": 100, **how}
        return [row.number for row in selectors.rows_search(many, words, **given).rows]

    assert numbers("정류장") == [321]
    assert numbers('"서울역"') == [321]
    assert numbers("STOP 77?") == [77]
    assert numbers("assistant") == [], "names of fields are no words of the row"
    lisbon = [number for number in range(900) if number % 8 == 1 and number != 321]
    assert numbers("lisbon", size=200) == lisbon
    page = selectors.rows_search(many, "lisbon", split="", start=0, size=10)
    assert [row.number for row in page.rows] == lisbon[:10] and page.next == lisbon[9] + 1
    assert numbers("lisbon", start=page.next, size=10) == lisbon[10:20]
    tested = set(split_rows(many, "test"))
    assert numbers("lisbon", split="test", size=200) == [n for n in lisbon if n in tested]
    monkeypatch.setattr(selectors, "SCANNED", 300)
    page = selectors.rows_search(many, "정류장", split="", start=0, size=10)
    assert (page.rows, page.next) == ([], 300)
    assert numbers("정류장", start=300) == [321]


def test_what_changed_between_versions(imported: Importer) -> None:
    old = imported(chats(300))
    changed = chats(310)
    del changed[100]
    changed[200]["messages"][1]["content"] += " Mind the gap."
    new = imported(changed)
    found = selectors.versions_diff(old, new)
    assert (found["added"], found["removed"], found["unchanged"]) == (11, 2, 298)
    assert [row.number for row in found["removed_rows"]] == [100, 201]
    assert [row.number for row in found["added_rows"]] == [200, *range(299, 309)]


def test_rows_of_a_leak_are_not_among_the_split_s(imported: Importer) -> None:
    rows = [{**row, "split": "train"} for row in chats(6)]
    rows += [{**row, "split": "test"} for row in chats(2, 4)]
    version = imported(rows, drop_bad_rows=True)
    assert (version.rows, version.stored_rows) == (6, 8)
    page = selectors.rows_page(version, split="", page=1, size=50)
    assert [row.number for row in page.rows] == [0, 1, 2, 3, 6, 7] and page.total == 6
    assert len(list(version_rows(version, "train"))) == 4


def test_every_problem_can_be_had_as_a_file(imported: Importer, storage: Path) -> None:
    version = imported([BAD, *chats(3)])
    packed = (storage / version.folder / "problems.jsonl.gz").read_bytes()
    [problem] = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert (problem["line"], problem["code"]) == (1, "ends_wrong")
