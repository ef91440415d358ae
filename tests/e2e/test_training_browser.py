"""Training in a real browser: the form with its dry run, and curves that grow as they are seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from finetune.models import DatasetVersion, TrainingEvent, TrainingJob
from mlops.models import Job, User
from mlops.roles import sync_roles
from tests.finetune.conftest import imported, owner, storage  # noqa: F401
from tests.finetune.made import library_rows
from tests.finetune.training_rows import (
    REPORT,
    base_model,
    dry_run_done,
    points,
    succeeded,
    training,
    under_way,
)
from tests.services import wait_for

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def page(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """An operator's; fails the test if a page's script fails."""
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
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, base_url=live_server.url
        )
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(error.stack or str(error)))
        yield page
        browser.close()
    assert not faults


@pytest.fixture
def shoot(page: Page, tmp_path: Path) -> Callable[..., None]:
    """Keeps what the page looks like, light and dark: in BROWSER_SHOTS if somebody looks."""
    folder = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, *, whole: bool = False) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=whole)
        if "BROWSER_SHOTS" in os.environ:
            page.evaluate("document.documentElement.classList.add('dark')")
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}-dark.png", full_page=whole)
            page.evaluate("document.documentElement.classList.remove('dark')")
            page.wait_for_timeout(300)

    return keep


@pytest.fixture
def version(imported: Any) -> DatasetVersion:  # noqa: F811
    base_model("library-1b")
    return imported(library_rows(300), name="reading-room", drop_bad_rows=True)


def test_curves_grow_and_a_job_is_stopped(
    page: Page, version: DatasetVersion, shoot: Callable[..., None]
) -> None:
    job = under_way(training(version.dataset.owner, version, "library-answers"), 400, 800)
    page.goto(f"/admin/finetune/trainingjob/{job.pk}/change/")
    loss = page.locator('[data-curve="loss"]')
    expect(loss.locator("path.line")).to_have_count(3)
    expect(loss.locator("path.mark")).to_have_count(20)
    expect(loss.locator("path.mark.best")).to_have_count(1)
    expect(page.locator('[data-curve="memory"] path.line')).to_have_count(1)
    # What isn't measured has no chart.
    expect(page.locator('[data-curve="margin"]')).to_be_hidden()
    step = page.locator(".training-figures strong").first
    expect(step).to_have_text("400")
    scale = page.get_by_role("button", name="log")
    expect(scale).to_have_attribute("aria-pressed", "false")
    linear = loss.locator("path.line").last.get_attribute("d")
    scale.click()
    expect(loss.locator("path.line").last).not_to_have_attribute("d", linear)
    scale.click()
    expect(loss.locator("path.line").last).to_have_attribute("d", linear)
    loss.hover()
    tip = loss.locator(".curve-tip")
    expect(tip).to_contain_text("Step")
    expect(tip).to_contain_text("validation")
    shoot("job")
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()

    page.evaluate("window.sameAsBefore = true")
    before = loss.locator("path.line").last.get_attribute("d")
    points(job, range(402, 441, 2), 800)
    TrainingEvent.objects.create(job=job, message="Checkpoint at step 420.")
    Job.objects.filter(pk=job.pk).update(progress_done=440)
    expect(step).to_have_text("440")
    expect(page.locator(".training-events")).to_contain_text("Checkpoint at step 420.")
    expect(loss.locator("path.line").last).not_to_have_attribute("d", before)
    assert page.evaluate("window.sameAsBefore")

    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".training-status")).to_contain_text("pausing")
    # As the worker does between two steps.
    Job.objects.filter(pk=job.pk).update(status=Job.Status.QUEUED, lease_until=None)
    expect(page.locator(".training-status")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".training-phase")).to_contain_text("Waits for a worker")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".training-status")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    job.refresh_from_db()
    assert job.status == Job.Status.CANCELLED


def test_the_end_is_seen_without_a_reload(
    page: Page, version: DatasetVersion, shoot: Callable[..., None]
) -> None:
    job = under_way(training(version.dataset.owner, version, "library-answers"), 780, 800)
    page.goto(f"/admin/finetune/trainingjob/{job.pk}/change/")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    points(job, range(782, 801, 2), 800)
    succeeded(job, callable_as="library-answers@1")
    result = page.locator(".training-result")
    expect(result).to_contain_text("callable as library-answers@1")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    shoot("ended", whole=True)
    result.get_by_role("link", name="library-answers v1").click()
    expect(page.locator(".model-card h2")).to_have_text("library-answers v1")
    page.get_by_role("button", name="Promote").click()
    expect(page.locator(".traffic")).to_contain_text("100 %")
    shoot("version", whole=True)


def test_the_form_its_dry_run_and_the_start(
    page: Page, version: DatasetVersion, shoot: Callable[..., None]
) -> None:
    page.goto("/admin/finetune/trainingjob/")
    page.get_by_role("link", name="New training").click()
    page.get_by_label("Name").fill("library-answers")
    page.get_by_label("Base model").select_option(label="library-1b")
    page.get_by_label("Epochs").fill("many")
    page.get_by_label("Dataset version").select_option(index=1)
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator('[data-field="option_epochs"] .field-errors')).to_contain_text("number")
    page.get_by_label("Epochs").fill("2")
    shoot("form", whole=True)
    page.get_by_role("button", name="Dry run").click()
    assert wait_for(lambda: TrainingJob.objects.filter(dry_run=True).exists())
    expect(page.locator("#dry-run-state")).to_contain_text("Waits for a worker")
    expect(page.locator(".field-errors")).to_have_count(0)
    dry_run_done(TrainingJob.objects.get())
    report = page.locator(".training-report")
    expect(report).to_contain_text("What the model will see")
    learned = report.locator("mark.token-learned")
    expect(learned.first).to_have_text(REPORT["examples"][0]["runs"][1]["text"])
    expect(report).to_contain_text(REPORT["warnings"][0])
    shoot("dry-run", whole=True)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".training-phase")).to_contain_text("Waits for a worker")
    job = TrainingJob.objects.get(dry_run=False)
    assert job.options["epochs"] == 2 and job.options["batch_size"] == "auto"
    assert (job.owner.username, job.dataset_version) == ("minji", version)
    page.goto("/admin/finetune/trainingjob/")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    shoot("list")
