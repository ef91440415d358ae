"""The API of datasets: from an upload to rows, reports, differences and downloads."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from rest_framework.test import APIClient

from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.tasks import import_dataset
from mlops.models import User
from tests.finetune.conftest import Importer
from tests.finetune.made import chats, picture, write_zip

pytestmark = pytest.mark.django_db

PLACE = "/api/v1/finetune/datasets"
BAD = {"messages": [{"role": "user", "content": "Nobody answers this."}]}


@pytest.fixture
def client(owner: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


def upload(rows: list[Any], name: str = "rows.jsonl") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def body(response: Any) -> bytes:
    """What a response streams."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    return async_to_sync(read)()


def test_upload_import_report(client: APIClient, storage: Path, owner: User) -> None:
    given = {"file": upload([*chats(30), BAD]), "name": "trams", "licence": "CC0", "test": 0.2}
    answer = client.post(f"{PLACE}/", given)
    assert answer.status_code == 202, answer.content
    job = answer.json()
    assert (job["status"], job["version"], job["source"]) == ("queued", None, "rows.jsonl")
    assert answer["Location"] == job["url"]
    assert import_dataset(job["id"])["status"] == "succeeded"

    job = client.get(job["url"]).json()
    assert (job["status"], job["progress"]) == ("succeeded", {"done": 100, "total": 100})
    version = client.get(job["version"]).json()
    assert (version["number"], version["state"], version["rows_bad"]) == (1, "invalid", 1)
    assert version["shares"] == {"validation": 0.05, "test": 0.2}
    assert version["report"]["problems"][0]["examples"][0]["line"] == 31
    assert client.get(f"{job['version']}/report").json() == version["report"]
    packed = body(client.get(f"{job['version']}/problems"))
    assert json.loads(gzip.decompress(packed))["code"] == "ends_wrong"

    [dataset] = client.get(f"{PLACE}/").json()["results"]
    assert (dataset["name"], dataset["kind"], dataset["versions"]) == ("trams", "chat", 1)
    assert dataset["latest"]["url"] == job["version"]
    chosen = client.post(f"{job['version']}/drop_bad_rows")
    assert (chosen.status_code, chosen.json()["state"]) == (200, "ready")
    assert DatasetVersion.objects.get().dropped_by == owner
    again = client.post(f"{job['version']}/drop_bad_rows")
    assert again.status_code == 409


def test_the_same_key_makes_no_second_import(client: APIClient, storage: Path) -> None:
    ids = set()
    for _ in range(2):
        given = {"file": upload(chats(3)), "name": "trams"}
        answer = client.post(f"{PLACE}/", given, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert len(ids) == 1 and DatasetImport.objects.count() == 1


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"name": "x"}, "file"),
        ({"file": upload(chats(2))}, "name"),
        ({"file": upload([]), "name": "x"}, "file"),
        ({"file": upload(chats(2)), "name": "x", "format": "morse"}, "format"),
        ({"file": upload(chats(2)), "name": "x", "tokenizer": "/etc"}, "tokenizer"),
        ({"file": upload(chats(2)), "name": "x", "test": "0.7", "validation": "0.5"}, "splits"),
    ],
)
def test_bad_requests(client: APIClient, storage: Path, given: Any, param: str) -> None:
    answer = client.post(f"{PLACE}/", given)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not Dataset.objects.exists()


def test_an_import_can_be_cancelled_and_tried_again(client: APIClient, storage: Path) -> None:
    job = client.post(f"{PLACE}/", {"file": upload(chats(3)), "name": "x"}).json()
    assert client.post(f"{job['url']}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{job['url']}/retry").json()["status"] == "queued"
    busy = client.delete(f"{PLACE}/{job['dataset']}")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "conflict")
    assert import_dataset(job["id"])["status"] == "succeeded"
    assert client.delete(f"{PLACE}/{job['dataset']}").status_code == 204
    assert not Dataset.objects.exists()


@pytest.fixture
def version(imported: Importer) -> DatasetVersion:
    return imported(chats(600), test=0.1)


def test_rows_by_page_split_and_word(client: APIClient, version: DatasetVersion) -> None:
    place = f"{PLACE}/{version.dataset_id}/versions/1"
    page = client.get(f"{place}/rows", {"page": 12, "page_size": 50}).json()
    assert page["count"] == 600 and len(page["results"]) == 50
    assert page["results"][0]["number"] == 550 and page["results"][0]["line"] == 551
    assert page["results"][0]["messages"] == chats(1, 550)[0]["messages"]
    tested = client.get(f"{place}/rows", {"split": "test", "page_size": 200}).json()
    assert tested["count"] == version.split_counts["test"] == len(tested["results"])
    found = client.get(f"{place}/rows", {"search": "stop 599", "page_size": 5}).json()
    assert [row["number"] for row in found["results"]] == [599]
    assert (found["count"], found["next"]) == (None, None)
    for wrong in ({"split": "no"}, {"page": "0"}, {"page": "x"}, {"start": "-1", "search": "a"}):
        assert client.get(f"{place}/rows", wrong).status_code == 400, wrong


def test_downloads(client: APIClient, version: DatasetVersion) -> None:
    place = f"{PLACE}/{version.dataset_id}/versions/1/download"
    whole = client.get(place)
    assert 'filename="trams-v1.jsonl.gz"' in whole["Content-Disposition"]
    assert [json.loads(line) for line in gzip.decompress(body(whole)).splitlines()] == chats(600)
    parts = {
        split: len(gzip.decompress(body(client.get(place, {"split": split}))).splitlines())
        for split in ("train", "validation", "test")
    }
    assert parts == version.split_counts
    assert client.get(place, {"split": "all"}).status_code == 400


def test_differences(client: APIClient, version: DatasetVersion, imported: Importer) -> None:
    imported(chats(590, 15), test=0.1)
    place = f"{PLACE}/{version.dataset_id}/versions/2/diff"
    found = client.get(place).json()
    assert (found["from"], found["to"], found["added"], found["removed"]) == (1, 2, 5, 15)
    assert found["added_rows"][0]["messages"] == chats(1, 600)[0]["messages"]
    assert client.get(place, {"against": 2}).json()["added"] == 0
    assert client.get(place, {"against": 7}).status_code == 404


def test_pictures_of_lines_are_encoded_anew(
    client: APIClient, imported: Importer, tmp_path: Path
) -> None:
    files = {"rec_gt.txt": "a.jpg\tone\nb.jpg\ttwo\n"}
    files |= {name: picture(text, "JPEG") for name, text in (("a.jpg", "one"), ("b.jpg", "two"))}
    version = imported(write_zip(tmp_path / "lines", files).read_bytes())
    rows = client.get(f"{PLACE}/{version.dataset_id}/versions/1/rows").json()["results"]
    assert [row["text"] for row in rows] == ["one", "two"] and "image" not in rows[0]
    answer = client.get(rows[1]["image_url"])
    assert answer["Content-Type"] == "image/png"
    assert Image.open(BytesIO(answer.content)).size == (48, 32)
    again = client.get(rows[1]["image_url"], headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304
    assert client.get(rows[1]["image_url"].replace("/1/image", "/9/image")).status_code == 404


def test_others_datasets_are_not_to_be_seen(version: DatasetVersion) -> None:
    stranger = APIClient()
    stranger.force_authenticate(User.objects.create_user("lee"))
    place = f"{PLACE}/{version.dataset_id}"
    for address in (place, f"{place}/versions", f"{place}/versions/1", f"{place}/versions/1/rows"):
        assert stranger.get(address).status_code == 404, address
    assert stranger.delete(place).status_code == 404
    assert stranger.get(f"{PLACE}/").json()["count"] == 0
    # The same name is another's own.
    answer = stranger.post(f"{PLACE}/", {"file": upload(chats(2)), "name": "trams"})
    assert answer.json()["dataset"] != str(version.dataset_id)


def test_annotators_look_and_don_t_touch(version: DatasetVersion) -> None:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name="annotator"))
    client = APIClient()
    client.force_authenticate(user)
    place = f"{PLACE}/{version.dataset_id}"
    assert client.get(f"{place}/versions/1/rows").status_code == 200
    assert client.delete(place).status_code == 403
    assert client.delete(f"{place}/versions/1").status_code == 403
    assert client.post(f"{place}/versions/1/drop_bad_rows").status_code == 403


def test_a_list_asks_no_more_for_more_datasets(
    client: APIClient, imported: Importer, django_assert_max_num_queries: Any
) -> None:
    for n in range(5):
        imported(chats(3), name=f"set {n}")
    with django_assert_max_num_queries(6):
        assert client.get(f"{PLACE}/").json()["count"] == 5
