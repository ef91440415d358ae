"""The console in a real browser: upload, follow the job, look at what was read."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from mlops.models import User
from ocr import tasks
from ocr.models import OcrJob
from ocr.samples import Sample, multi_page_pdf, render_samples
from tests.factories import PASSWORD, StaffFactory

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]

SIZE = {"width": 1440, "height": 900}


@pytest.fixture
def page(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    """Fails the test if the page's own scripts fail, or if anything is fetched from elsewhere."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    faults: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(viewport=SIZE).new_page()
        page.on("pageerror", lambda error: faults.append(error.stack))
        page.on("request", lambda sent: faults.extend(_far(sent.url)))
        yield page
        page.screenshot(path=_kept(tmp_path) / f"{request.node.name}.png")
        browser.close()
    assert not faults


@pytest.fixture
def annotator() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    samples = render_samples(tmp_path_factory.mktemp("samples"))
    return next(sample for sample in samples if sample.name == "receipt")


def _far(url: str) -> list[str]:
    near = ("http://localhost", "http://127.0.0.1", "data:", "blob:")
    return [] if url.startswith(near) else [url]


def _kept(folder: Path) -> Path:
    """Where screenshots go: BROWSER_SHOTS if somebody wants to look at them."""
    kept = Path(os.environ.get("BROWSER_SHOTS", folder))
    kept.mkdir(parents=True, exist_ok=True)
    return kept


def log_in(page: Page, server: LiveServer, user: User) -> None:
    page.goto(f"{server.url}/admin/")
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{server.url}/admin/")


def upload(page: Page, server: LiveServer, path: Path) -> OcrJob:
    page.goto(f"{server.url}/admin/ocr/document/add/")
    page.locator("#id_files").set_input_files(path)
    expect(page.locator("#chosen-files")).to_contain_text(path.name)
    page.locator("#id_engine").select_option("rapidocr")
    page.locator("#id_languages").select_option("en", force=True)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text(f"{path.name} stored and queued for OCR.")).to_be_visible()
    return OcrJob.objects.get()


def work(job: OcrJob) -> threading.Thread:
    """What a worker does with the job, beside the browser."""

    def run() -> None:
        try:
            tasks.extract_text(str(job.pk))
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_from_upload_to_the_boxes_on_the_page(
    page: Page, live_server: LiveServer, annotator: User, receipt: Sample
) -> None:
    log_in(page, live_server, annotator)
    job = upload(page, live_server, receipt.path)
    row = page.locator("#result_list tbody tr", has_text=receipt.path.name)
    expect(row).to_contain_text("Queued")
    page.evaluate("window.notReloaded = true")
    worker = work(job)
    expect(row).to_contain_text("Succeeded", timeout=60_000)
    worker.join()
    assert page.evaluate("window.notReloaded"), "the list followed the job without a reload"
    result = OcrJob.objects.get().results.get()

    row.get_by_role("link").first.click()
    page.locator(".gallery-page").click()
    boxes, lines = page.locator("#stage polygon"), page.locator("#lines button")
    expect(boxes).to_have_count(len(result.lines))
    expect(lines).to_have_count(len(result.lines))
    expect(lines.first.locator(".line-text")).to_have_text(result.lines[0]["text"])
    size = page.locator("#page-image").evaluate("i => [i.naturalWidth, i.naturalHeight]")
    assert size == [result.width, result.height]

    last = len(result.lines) - 1
    boxes.nth(3).hover()
    expect(lines.nth(3)).to_have_class("is-active")
    lines.nth(5).hover()
    expect(boxes.nth(5)).to_have_class("is-active")
    expect(lines.nth(3)).not_to_have_class("is-active")
    lines.nth(last).click()
    page.mouse.move(5, 5)
    expect(lines.nth(last)).to_have_attribute("aria-pressed", "true")
    expect(boxes.nth(last)).to_contain_class("is-active is-pinned")
    expect(boxes.nth(last)).to_be_in_viewport()


def test_keys_zoom_and_filter(
    page: Page, live_server: LiveServer, annotator: User, tmp_path: Path
) -> None:
    multi_page_pdf(tmp_path / "pages.pdf", 2)
    log_in(page, live_server, annotator)
    job = upload(page, live_server, tmp_path / "pages.pdf")
    work(job).join()
    low = job.results.get(page__number=1)
    low.lines[1]["confidence"] = 0.2
    low.save(update_fields=["lines"])

    first = f"{live_server.url}/admin/ocr/ocrjob/{job.pk}/pages/1/"
    page.goto(first)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(first.replace("/1/", "/2/"))
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(first)

    lines = page.locator("#lines button")
    lines.first.focus()
    page.keyboard.press("ArrowDown")
    expect(lines.nth(1)).to_be_focused()
    page.get_by_label("Only low confidence").check()
    expect(page.locator("#lines button:visible")).to_have_count(1)
    expect(page.locator("#stage polygon:visible")).to_have_count(1)

    page.get_by_role("button", name="100 %").click()
    expect(page.locator("#zoom-level")).to_have_text("100 %")
    assert page.locator("#stage").bounding_box()["width"] == low.width
    page.get_by_role("button", name="Larger").click()
    expect(page.locator("#zoom-level")).to_have_text("125 %")
    with page.expect_download() as download:
        page.get_by_role("link", name="TXT").click()
    assert Path(download.value.path()).read_text().startswith("Page 1 of 2")


def test_refused_file_is_named(
    page: Page, live_server: LiveServer, annotator: User, tmp_path: Path
) -> None:
    (tmp_path / "letter.png").write_text("not an image")
    log_in(page, live_server, annotator)
    page.goto(f"{live_server.url}/admin/ocr/document/add/")
    page.locator("#id_files").set_input_files(tmp_path / "letter.png")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("letter.png")
    expect(page.get_by_role("alert")).to_contain_text("none of the accepted types")
