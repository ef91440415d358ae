"""A dataset's way through the console in a real browser: upload, report, choice, rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from finetune.models import DatasetImport
from finetune.tasks import import_dataset
from mlops.models import User
from mlops.roles import sync_roles
from tests.finetune.made import library_rows, write_lines

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def browse(
    live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Page]]:
    """Opens an address as an operator; fails the test if a page's script fails."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    sync_roles()
    user = User.objects.create_user("minji", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    faults: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        context = browser.new_context(viewport={"width": 1440, "height": 1180})
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(error.stack or str(error)))

        def visit(path: str) -> Page:
            page.goto(live_server.url + path)
            return page

        yield visit
        browser.close()
    assert not faults


def test_from_upload_to_rows(browse: Callable[[str], Page], storage: Path, tmp_path: Path) -> None:
    shots = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    path = write_lines(tmp_path / "reading-room.jsonl", library_rows(1600))
    page = browse("/admin/finetune/dataset/")
    page.get_by_role("link", name="Import", exact=True).click()
    page.locator("input[type=file]").set_input_files(path)
    page.locator("[name=name]").fill("Reading room questions")
    page.locator("[name=licence]").fill("CC BY 4.0")
    page.locator("[name=test]").fill("10")
    page.screenshot(path=shots / "dataset-import.png")
    page.get_by_role("button", name="Import").click()
    page.wait_for_url("**/datasetimport/*/change/**")

    job = DatasetImport.objects.get()
    assert import_dataset(str(job.pk))["status"] == "succeeded"
    page.reload()
    page.get_by_role("link", name="Reading room questions v1").first.click()
    expect(page.get_by_text("rows have errors: it can't be trained on as it is")).to_be_visible()
    expect(page.get_by_role("img", name="Rows by length in tokens")).to_be_visible()
    problems = page.locator(".dataset-problem tbody tr")
    expect(problems.filter(has_text="Empty target")).to_contain_text("messages[1].content")
    page.screenshot(path=shots / "dataset.png")
    page.screenshot(path=shots / "dataset-whole.png", full_page=True)
    page.get_by_role("button", name="Leave out the bad rows").click()
    expect(page.get_by_text("minji chose to leave them out")).to_be_visible()

    page.get_by_role("link", name="rows", exact=True).click()
    expect(page.locator(".dataset-row")).to_have_count(25)
    page.get_by_role("link", name="2", exact=True).click()
    expect(page.locator(".dataset-row strong").first).to_have_text("25")
    page.get_by_label("Words in a row").fill("지도실")
    page.keyboard.press("Enter")
    first = page.locator(".dataset-row").first
    expect(first).to_contain_text("지도실")
    page.screenshot(path=shots / "dataset-rows.png")
    page.get_by_role("link", name="test").click()
    expect(page.locator(".dataset-row-facts").first).to_contain_text("test")
    with page.expect_download() as download:
        page.get_by_role("link", name="Rows").last.click()
    assert download.value.suggested_filename == "Reading room questions-v1.jsonl.gz"
