"""The playground in a real browser, with real streams; and models as workers tell of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from llm.models import GenerationJob, LanguageModel, ModelInstance
from mlops.models import Job, User
from tests.factories import PASSWORD, StaffFactory
from tests.llm.service import Service, service

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]

SIZE = {"width": 1440, "height": 900}


@pytest.fixture
def served(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with service(settings, delay=0.02) as made:
        made.model("echo")
        made.model("slow", options={"delay": 0.2})
        yield made


@pytest.fixture
def shoot(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Keeps what the page looks like: in BROWSER_SHOTS if somebody wants to look."""
    folder = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: page.screenshot(path=folder / f"{name}.png")


@pytest.fixture
def page(served: Service) -> Iterator[Page]:
    """Fails the test if the page's own scripts fail, or if anything is fetched from elsewhere."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    faults: list[str] = []

    def far(url: str) -> list[str]:
        return [] if url.startswith((served.url, "data:", "blob:")) else [url]

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(viewport=SIZE).new_page()
        page.on("pageerror", lambda error: faults.append(error.stack or str(error)))
        page.on("request", lambda sent: faults.extend(far(sent.url)))
        yield page
        browser.close()
    assert not faults


def log_in(page: Page, served: Service, role: str) -> User:
    user = StaffFactory(username=f"minji-{role}", role=role)
    page.goto(f"{served.url}/admin/")
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{served.url}/admin/")
    return user


def say(page: Page, text: str) -> Any:
    """Sends a message; the last answer's place."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    return page.locator(".play-message").last


def test_a_conversation_in_the_playground(
    page: Page, served: Service, shoot: Callable[[str], None]
) -> None:
    user = log_in(page, served, "annotator")
    page.get_by_role("link", name="Playground").click()
    expect(page.locator("#model-note")).to_have_text("not loaded: the first answer waits")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.3")
    answer = say(page, "first words of mine")
    expect(answer.locator(".play-figures")).to_contain_text("6 + 4 tokens")
    expect(answer.locator(".play-text")).to_have_text("first words of mine")
    expect(answer.locator(".play-figures")).to_contain_text("tokens/s")
    expect(answer.locator(".play-figures")).to_contain_text("first after")
    # The next message is sent with what was said before.
    answer = say(page, "and more")
    expect(answer.locator(".play-figures")).to_contain_text("12 + 2 tokens")
    job = served.job()
    assert (job.owner, job.api_key, job.streamed) == (user, None, True)
    shoot("playground")
    # Answered again it is one answer still.
    page.locator(".play-message").last.hover()
    page.get_by_role("button", name="Answer again").last.click()
    expect(page.locator(".play-message").last.locator(".play-figures")).to_contain_text("12 + 2")
    expect(page.locator(".play-message")).to_have_count(4)
    page.get_by_role("button", name="New").click()
    expect(page.locator(".play-message")).to_have_count(0)


def test_stopping_an_answer_ends_its_generation(page: Page, served: Service) -> None:
    log_in(page, served, "annotator")
    page.goto(f"{served.url}/admin/llm/playground/?model=slow")
    expect(page.locator("select[name=model]")).to_have_value("slow")
    answer = say(page, "count 500")
    expect(answer.locator(".play-text")).to_contain_text("1 2 ")
    page.get_by_role("button", name="Stop").click()
    expect(answer.locator(".play-figures")).to_have_text("stopped")
    job = served.job()
    assert job.status == Job.Status.CANCELLED and job.completion_tokens < 400
    # What was said stays, and the conversation goes on.
    expect(say(page, "hello").locator(".play-text")).to_have_text("hello")


def test_answers_after_a_schema(page: Page, served: Service) -> None:
    log_in(page, served, "annotator")
    page.goto(f"{served.url}/admin/llm/playground/?model=echo")
    page.get_by_label("Answer as").select_option("json_schema")
    schema = page.get_by_label("JSON Schema")
    schema.fill("{broken")
    say(page, "anything")
    expect(page.locator("#schema-fault")).to_contain_text("This is no JSON")
    expect(page.locator(".play-message")).to_have_count(0)
    schema.fill(json.dumps({"type": "object", "properties": {"total": {"type": "integer"}}}))
    page.get_by_label("Message", exact=True).press("Enter")
    answer = page.locator(".play-message").last
    expect(answer.locator(".play-text")).to_have_text('{"total": 7}')


def test_what_goes_wrong_is_told(page: Page, served: Service) -> None:
    log_in(page, served, "annotator")
    page.goto(f"{served.url}/admin/llm/playground/?model=echo")
    answer = say(page, "fail 3")
    expect(answer.get_by_role("alert")).to_contain_text("The model's fault")
    LanguageModel.objects.filter(name="echo").update(enabled=False)
    answer = say(page, "hello")
    expect(answer.get_by_role("alert")).to_contain_text("does not exist")
    LanguageModel.objects.filter(name="echo").update(enabled=True)
    expect(say(page, "hello").locator(".play-text")).to_have_text("hello")
    roles = page.locator(".play-message").evaluate_all("all => all.map(one => one.dataset.role)")
    assert roles[-2:] == ["user", "assistant"] and GenerationJob.objects.count() == 2


def test_the_request_as_code(page: Page, served: Service, shoot: Callable[[str], None]) -> None:
    log_in(page, served, "annotator")
    page.goto(f"{served.url}/admin/llm/playground/?model=echo")
    page.get_by_label("Stop at").fill("one\ntwo")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Message", exact=True).fill('It\'s "quoted"')
    page.get_by_role("button", name="As code").click()
    curl = page.locator("#code-text").text_content()
    assert f"curl -N {served.url}/v1/chat/completions" in curl and "'\\''" in curl
    page.get_by_role("tab", name="Python").click()
    shoot("playground-code")
    python = page.locator("#code-text").text_content()
    assert 'stop=["one", "two"]' in python and "seed=7" in python
    page.get_by_role("button", name="Close").click()
    # It is a program that runs: by the real client, with a key from the environment.
    said: list[str] = []
    previous = os.environ.get("OPENAI_API_KEY")
    os.environ["OPENAI_API_KEY"] = served.token
    try:
        exec(python, {"print": lambda text, **_: said.append(text)})
    finally:
        os.environ.pop("OPENAI_API_KEY")
        if previous is not None:
            os.environ["OPENAI_API_KEY"] = previous
    assert "".join(said) == 'It\'s "quoted"'
    assert served.job().body is None


def test_models_are_followed_while_workers_load_them(
    page: Page, served: Service, shoot: Callable[[str], None]
) -> None:
    log_in(page, served, "operator")
    page.goto(f"{served.url}/admin/llm/languagemodel/")
    row = page.locator("#result_list tbody tr", has_text="echo")
    expect(row).to_contain_text("not loaded")
    served.client().chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "hi"}]
    )
    expect(row).to_contain_text("Ready", timeout=15_000)
    damaged = served.model("damaged", source="a damaged folder")
    ModelInstance.objects.create(
        model=damaged,
        worker="a worker",
        state=ModelInstance.State.FAILED,
        error="No readable weights.",
        seen_at=damaged.created_at,
    )
    page.reload()
    row = page.locator("#result_list tbody tr", has_text="damaged")
    expect(row.get_by_title("No readable weights.")).to_be_visible()
    shoot("models")
