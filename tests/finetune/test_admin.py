"""The console's pages of datasets, by the test client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from finetune.models import Dataset, DatasetImport
from finetune.tasks import import_dataset
from mlops.models import User
from tests.finetune.conftest import Importer
from tests.finetune.made import chat, chats, picture, write_zip
from tests.finetune.test_from_reviews import reviewed

pytestmark = pytest.mark.django_db

BAD = {"messages": [{"role": "user", "content": "Nobody answers this."}]}


def signed_in(name: str, role: str) -> tuple[Client, User]:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def operator(db: None) -> Client:
    return signed_in("op", "operator")[0]


def page(client: Client, view: str, *args: Any, **query: Any) -> str:
    answer = client.get(reverse(f"admin:finetune_{view}", args=args), query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def test_import_by_the_form(operator: Client, storage: Path) -> None:
    assert "From corrected pages" in page(operator, "dataset_changelist")
    form = page(operator, "dataset_add", name="trams")
    assert 'value="trams"' in form
    given = {"name": "trams", "test": "10", "validation": "0", "format": "", "max_tokens": ""}
    address = reverse("admin:finetune_dataset_add")
    answer = operator.post(address, given)
    assert "Give either" in answer.content.decode()
    file = SimpleUploadedFile("rows.jsonl", b'{"text": "One."}\n{"text": "Two."}\n')
    answer = operator.post(address, {**given, "file": file})
    job = DatasetImport.objects.get()
    assert answer["Location"] == reverse("admin:finetune_datasetimport_change", args=[job.pk])
    assert job.options["test"] == 0.1 and job.options["max_tokens"] == 0
    import_dataset(str(job.pk))
    assert "trams v1" in page(operator, "datasetimport_change", job.pk)
    assert "trams v1" in page(operator, "datasetimport_changelist")
    listed = page(operator, "dataset_changelist")
    assert "plain text" in listed and "Ready" in listed
    assert "rows.jsonl" in page(operator, "dataset_change", Dataset.objects.get().pk)


def test_the_report_and_the_choice_to_drop_bad_rows(operator: Client, imported: Importer) -> None:
    version = imported([*chats(30), BAD, chat("이건 무엇인가요?", "전차입니다.")])
    shown = page(operator, "datasetversion_change", version.pk)
    assert "1 of 32 rows have errors" in shown
    assert "Doesn&#x27;t end with the assistant" in shown and "line 31" in shown
    assert shown.count("<svg") >= 3 and "Korean" in shown and "3.2%" in shown
    answer = operator.post(reverse("admin:finetune_datasetversion_drop", args=[version.pk]))
    assert answer.status_code == 302
    version.refresh_from_db()
    assert version.ready and version.dropped_by.username == "op"
    shown = page(operator, "datasetversion_change", version.pk)
    assert "without its 1 bad rows" in shown and "op chose" in shown


def test_rows_are_browsed_and_searched(operator: Client, imported: Importer) -> None:
    version = imported([*chats(120), chat("<b>Bold?</b>", "No & yes.")])
    first = page(operator, "datasetversion_rows", version.pk)
    assert first.count('class="dataset-row"') == 25 and 'href="?p=5"' in first
    last = page(operator, "datasetversion_rows", version.pk, p=5)
    assert last.count('class="dataset-row"') == 21
    assert "&lt;b&gt;Bold?&lt;/b&gt;" in last and "<b>Bold" not in last
    found = page(operator, "datasetversion_rows", version.pk, q="stop 77?")
    assert found.count('class="dataset-row"') == 1 and "line 78" in found
    none = page(operator, "datasetversion_rows", version.pk, q="zeppelin", split="test")
    assert "No row from 1 to 121 holds this." in none


def test_what_changed(operator: Client, imported: Importer) -> None:
    version = imported(chats(20))
    assert "no other version" in page(operator, "datasetversion_diff", version.pk)
    version = imported(chats(22, 1))
    shown = page(operator, "datasetversion_diff", version.pk)
    assert "19 rows are the same in v1 and v2" in shown
    assert shown.count('class="dataset-row"') == 4


def test_lines_of_ocr_are_shown_as_pictures(
    operator: Client, imported: Importer, tmp_path: Path
) -> None:
    files = {"rec_gt.txt": "a.png\tone\n", "a.png": picture("one")}
    version = imported(write_zip(tmp_path / "lines", files).read_bytes())
    address = reverse("admin:finetune_datasetversion_image", args=[version.pk, 0])
    assert f'src="{address}"' in page(operator, "datasetversion_rows", version.pk)
    assert operator.get(address)["Content-Type"] == "image/png"
    assert operator.get(address.replace("/0/", "/5/")).status_code == 404


def test_annotators_look(imported: Importer) -> None:
    version = imported([*chats(3), BAD])
    client, _user = signed_in("ann", "annotator")
    assert "Import" not in page(client, "dataset_changelist").partition("object-tools")[2]
    shown = page(client, "datasetversion_change", version.pk)
    assert "Leave out the bad rows" not in shown
    drop = reverse("admin:finetune_datasetversion_drop", args=[version.pk])
    assert client.post(drop).status_code == 403
    assert client.get(reverse("admin:finetune_dataset_add")).status_code == 403
    assert client.get(reverse("admin:finetune_dataset_from_reviews")).status_code == 403


def test_a_dataset_of_corrections_by_an_action(storage: Path, owner: User) -> None:
    reviews = [reviewed(owner, n) for n in range(2)]
    client, _user = signed_in("op", "operator")
    address = reverse("admin:ocr_correction_changelist")
    chosen = [review.corrections.get().pk for review in reviews[:1]]
    answer = client.post(address, {"action": "make_dataset", "_selected_action": chosen})
    shown = answer.content.decode()
    assert "1 accepted page of 1 chosen" in shown
    assert f'name="review" value="{reviews[0].pk}"' in shown
    given = {"review": [reviews[0].pk], "name": "pages", "make": "ocr", "test": 5, "validation": 5}
    client.post(reverse("admin:finetune_dataset_from_reviews"), given)
    job = DatasetImport.objects.get()
    assert (job.options["reviews"], job.options["make"]) == ([reviews[0].pk], "ocr")
    # Without a choice it is all accepted pages.
    assert "2 accepted pages" in page(client, "dataset_from_reviews")
    annotator, _user = signed_in("ann", "annotator")
    assert "make_dataset" not in annotator.get(address).content.decode()
    assert "make_dataset" in client.get(address).content.decode()
