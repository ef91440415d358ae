"""Extraction in a real browser: from an upload to accepted values, by the keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Locator, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from llm import tasks
from llm.models import ExtractionBatch, ExtractionJob
from llm.services.extractions import extraction_batch_submit
from mlops.models import Job, User
from ocr.models import Document, OcrJob
from ocr.samples import render_samples
from ocr.tasks import extract_text
from tests.factories import StaffFactory

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]

KINDS = {
    OcrJob.KIND: extract_text,
    ExtractionJob.KIND: tasks.extract_values,
    ExtractionBatch.KIND: tasks.extract_batch,
}


def work() -> None:
    """What workers do until nothing is due."""
    while job := Job.objects.due().order_by("created_at").first():
        KINDS[job.kind](str(job.pk))


@pytest.fixture
def annotator() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    live_server: LiveServer,
    annotator: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Page]:
    """A browser in which the annotator is logged in; fails the test if a page's script fails."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    shots = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    client = Client()
    client.force_login(annotator)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    faults: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(error.stack or str(error)))
        yield page
        page.screenshot(path=shots / f"{request.node.name}.png")
        browser.close()
    assert not faults


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    samples = render_samples(tmp_path_factory.mktemp("samples"))
    return {sample.name: sample.path for sample in samples}


def field(page: Page, path: str) -> Locator:
    return page.locator(f'.field[data-path="{path}"]')


def test_from_upload_to_accepted_values_by_the_keyboard(
    page: Page, live_server: LiveServer, papers: dict[str, Path]
) -> None:
    page.goto(f"{live_server.url}/admin/llm/extractionjob/add/")
    page.locator("#id_files").set_input_files(papers["receipt"])
    page.locator("#id_template").select_option("receipt")
    page.get_by_role("button", name="Extract").click()
    expect(page.get_by_text("The document is being read first.")).to_be_visible()
    work()
    # The page follows the job by itself.
    expect(field(page, "/company").locator(".field-value")).to_have_text(
        "MILL STREET BAKERY", timeout=20_000
    )
    expect(field(page, "/date").locator(".field-value")).to_have_text("2025-03-12")
    expect(field(page, "/total").locator(".field-value")).to_have_text("47.2")
    job = ExtractionJob.objects.get()

    # Whatever has the focus has its box lit.
    lit = page.locator("#stage polygon.is-active")
    expect(field(page, "/company").locator("button")).to_be_focused()
    expect(lit).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(field(page, "/date").locator("button")).to_be_focused()
    expect(lit).to_have_attribute("data-line", "/date#0")
    polygon = job.evidence["/date"]["polygons"][0]
    assert lit.get_attribute("points") == " ".join(f"{_js(x)},{_js(y)}" for x, y in polygon)
    # The pointer lights up another, and leaves the keyboard where it is.
    field(page, "/total").locator("button").hover()
    expect(lit).to_have_attribute("data-line", "/total#0")
    page.mouse.move(5, 5)
    expect(lit).to_have_attribute("data-line", "/date#0")
    # A click on a box goes to its value.
    page.locator('#stage polygon[data-line="/company#0"]').click()
    expect(field(page, "/company").locator("button")).to_be_focused()

    # A value is edited in place; what the schema refuses is said and not stored.
    field(page, "/total").locator("button").focus()
    page.keyboard.press("Enter")
    editor = page.locator(".field-input")
    expect(editor).to_have_value("47.2")
    editor.fill("a lot")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The schema asks for number")
    expect(editor).to_be_focused()
    editor.fill("EUR 50.00")
    page.keyboard.press("Enter")
    expect(field(page, "/total").locator(".field-value")).to_have_text("50")
    expect(field(page, "/total")).to_have_attribute("data-how", "corrected")
    expect(field(page, "/total")).to_contain_text("was: 47.2")
    expect(page.get_by_role("alert")).to_be_hidden()

    page.keyboard.press("a")
    expect(page.locator("#page-status")).to_have_text("accepted")
    job.refresh_from_db()
    assert job.accepted_at and job.reviewer.username == "minji"
    assert job.final["total"] == 50 and job.values["total"] == 47.2
    page.keyboard.press("r")
    expect(page.locator("#page-status")).to_have_text("to review")


def test_from_one_extraction_to_the_next(
    page: Page, live_server: LiveServer, annotator: User, papers: dict[str, Path]
) -> None:
    with papers["receipt"].open("rb") as receipt, papers["invoice"].open("rb") as invoice:
        extraction_batch_submit(
            owner=annotator,
            source=Document.Source.CONSOLE,
            files=[receipt, invoice],
            template="invoice",
        )
    work()
    batch = ExtractionBatch.objects.get()
    page.goto(f"{live_server.url}/admin/llm/extractionbatch/{batch.pk}/change/")
    page.get_by_role("link", name="receipt.png", exact=True).click()
    shown(page, "receipt.png")
    page.keyboard.press("p")
    shown(page, "invoice.png")
    name = field(page, "/items/0/name").locator(".field-value")
    expect(name).to_have_text("Newspaper pages scanned, gray")
    page.keyboard.press("n")
    shown(page, "receipt.png")
    # Accepting one opens the next that waits.
    page.keyboard.press("Control+Enter")
    shown(page, "invoice.png")
    page.keyboard.press("a")
    expect(page.get_by_role("alert")).to_contain_text("Nothing is left to review")
    assert ExtractionJob.objects.filter(accepted_at=None).count() == 0


def shown(page: Page, name: str) -> None:
    """Waits until the page of that document listens to keys: its script has drawn the values."""
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(field(page, "/total").locator("button")).to_be_visible()


def _js(number: float) -> str:
    """As JavaScript writes it."""
    return str(int(number)) if number == int(number) else str(number)
