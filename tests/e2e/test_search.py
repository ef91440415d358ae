"""From scans to an answer with its sources: web, worker, Qdrant's folder, and a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from ocr.samples import render_samples
from tests.services import wait_for
from tests.stack import Stack

# Starting all of it takes its time on a busy machine.
pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300)]

SIZE = {"width": 1440, "height": 1000}
ENGINES = {
    "hashing": {"BACKEND": "tests.llm.library.HashingEngine"},
    "scripted": {
        "BACKEND": "tests.llm.library.ScriptedEngine",
        "OPTIONS": {
            "answer": "The Contractor sends one invoice a month, payable within 30 days [1]. "
            "The price is 0.14 euro for each accepted page [1][9].",
            "fixes": {
                "Opening hours": "Opening Hours",
                "What has changed": "What has changed since the room was closed",
            },
        },
    },
}
MODELS = (
    {"name": "embedder", "engine": "hashing", "source": "x", "task": "embeddings"},
    {"name": "writer", "engine": "scripted", "source": "x"},
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Samples read and indexed by a worker without anybody asking for it."""
    samples = render_samples(tmp_path_factory.mktemp("samples"))
    with Stack(LLM_INDEX="auto", LLM_ENGINES=json.dumps(ENGINES)) as running:
        running.worker()
        running.web()
        for model in MODELS:
            made = running.client.post("/api/v1/llm/models/", json=model)
            assert made.status_code == 201, made.text
        running.ready()
        wanted = ("scanned-agreement", "english-page")
        for sample in samples:
            if sample.name in wanted:
                running.ended(running.submit(sample.path))

        def indexed() -> bool:
            state = running.client.get("/api/v1/llm/index").json()
            return state["with_vectors"] == len(wanted) and not state["waiting"]

        assert wait_for(indexed, 90), running.logs()
        yield running


@pytest.fixture
def page(stack: Stack, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """The console, logged in; fails the test if the page's own scripts do."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    made = (stack.data_dir / "credentials").read_text().splitlines()
    credentials = dict(line.split("=", 1) for line in made)
    faults: list[str] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(viewport=SIZE).new_page()
        page.on("pageerror", lambda error: faults.append(error.stack))
        page.goto(f"http://127.0.0.1:{stack.port}/admin/")
        page.get_by_label("Username").fill(credentials["username"])
        page.get_by_label("Password").fill(credentials["password"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/admin/")
        yield page
        kept = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
        page.screenshot(path=kept / f"{request.node.name}.png")
        browser.close()
    assert not faults


def search(stack: Stack, **body: Any) -> dict[str, Any]:
    answer = stack.client.post("/api/v1/llm/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_question_is_answered_with_its_place_on_the_page(stack: Stack, page: Page) -> None:
    found = search(stack, query="When must the invoice be paid?")
    assert found["mode"] == "hybrid" and found["note"] is None
    first = found["hits"][0]
    assert first["document"]["name"] == "scanned-agreement.pdf" and first["page"] == 2
    assert "payable within 30" in first["text"].replace("\n", " ")

    page.goto(f"http://127.0.0.1:{stack.port}/admin/llm/search/")
    page.get_by_label("Search in documents").fill("When must the invoice be paid?")
    page.get_by_label("Answer by").select_option("writer")
    page.get_by_role("button", name="Search", exact=True).click()
    answer = page.locator("#answer-text")
    expect(answer).to_contain_text("payable within 30 days")
    expect(answer.locator("a")).to_have_text(["1", "1"])
    expect(page.locator("#search-note")).to_contain_text("found by words and meaning")
    hit = page.locator("#passage-1")
    expect(hit).to_contain_class("is-cited")
    expect(hit.locator("mark").first).to_be_visible()
    expect(hit.locator("svg rect").first).to_be_visible()
    loaded = "i => fetch(i.getAttribute('href')).then(r => r.blob()).then(b => b.type)"
    assert hit.locator("svg image").evaluate(loaded) == "image/jpeg"


def test_words_are_found_without_an_answer(stack: Stack, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{stack.port}/admin/llm/search/")
    page.get_by_label("Search in documents").fill("TELEPHONE")
    page.get_by_label("Find by").select_option("lexical")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".search-hit")).to_have_count(1)
    expect(page.locator("#search-answer")).to_be_hidden()
    page.reload()
    expect(page.locator(".search-hit")).to_have_count(1)
    page.locator(".search-hit [data-name]").first.click()
    page.wait_for_url("**/pages/1/")


def test_a_models_corrections_are_looked_at_and_taken_over(stack: Stack, page: Page) -> None:
    jobs = stack.client.get("/api/v1/ocr/jobs/").json()["results"]
    job = next(job for job in jobs if job["document_name"] == "english-page.png")
    asked = {"job": job["id"], "model": "writer"}
    made = stack.client.post("/api/v1/llm/corrections/", json=asked).json()

    def corrected() -> bool:
        now = stack.client.get(f"/api/v1/llm/corrections/{made['id']}").json()
        assert now["status"] != "failed", now
        return now["status"] == "succeeded"

    assert wait_for(corrected, 60), stack.logs()
    page.goto(f"http://127.0.0.1:{stack.port}/admin/llm/textfix/{made['id']}/pages/1/")
    lines = page.locator(".fix-lines li:visible")
    expect(lines).to_have_count(2)
    expect(lines.nth(0)).to_contain_text("Not taken: ")
    expect(lines.nth(1).locator("del")).to_have_text("hours")
    expect(lines.nth(1).locator("ins")).to_have_text("Hours")
    lines.nth(1).hover()
    expect(page.locator("#stage polygon.is-active")).to_have_count(1)
    page.get_by_role("button", name="Take ticked lines over").click()
    expect(page.get_by_text("1 line taken over into the review.")).to_be_visible()
    expect(lines.nth(1)).to_contain_text("Taken over by admin")
