"""The pages of evaluations, sweeps and versions in a browser that asks for dark pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from finetune.models import Evaluation, ModelVersion, Sweep, TrainingJob, TrainingMetric
from finetune.training_view import percent
from mlops.models import Job, User
from mlops.roles import sync_roles
from ocr.services import trained_engine_save
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.test_evaluation_pages import compared as compared_fixture
from tests.finetune.training_rows import succeeded, training, under_way

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]
compared = compared_fixture
# The least contrast of text by WCAG 2.1, AA, and of what is drawn.
TEXT, DRAWN = 4.5, 3.0
# Colours as they are painted, whatever notation a style has them in; opacity is left to the eye.
CONTRAST = """
(nodes, property) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255];
  };
  return nodes.map((node) => {
    const [one, other] = [light(rgba(getComputedStyle(node)[property])), light(behind(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return [contrast, node.outerHTML.slice(0, 160)];
  });
}
"""


@pytest.fixture
def page(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """An operator's, dark as their system is."""
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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, base_url=live_server.url, color_scheme="dark"
        )
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        yield context.new_page()
        browser.close()


def seen(page: Page, name: str) -> None:
    """Keeps what the page looks like, if somebody wants to look."""
    if "BROWSER_SHOTS" in os.environ:
        folder = Path(os.environ["BROWSER_SHOTS"])
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=True)


def readable(page: Page, selector: str, *, least: float = TEXT, what: str = "color") -> None:
    found = page.locator(selector).evaluate_all(CONTRAST, what)
    assert found, f"nothing is {selector}"
    worst, shown = min(found)
    assert worst >= least, f"{worst:.2f} of {what}: {shown}"


def test_an_evaluation(page: Page, compared: Evaluation) -> None:
    page.goto(reverse("admin:finetune_evaluation_change", args=[compared.pk]))
    expect(page.locator("html.dark")).to_have_count(1)
    expect(page.locator(".evaluation-figure")).to_have_count(5)
    seen(page, "evaluation")
    for text in ("value", "interval", "tick"):
        readable(page, f".evaluation-figure .{text}", what="fill")
    readable(page, ".evaluation-figure rect", least=DRAWN, what="fill")
    readable(page, ".evaluation-figure .whisker", least=DRAWN, what="stroke")
    readable(page, ".console-panel h2 span, .evaluation-sides strong, .console-table td")
    page.goto(reverse("admin:finetune_evaluation_rows", args=[compared.pk]))
    expect(page.locator("article")).to_have_count(20)
    seen(page, "evaluation-rows")
    readable(page, ".evaluation-answer p, .evaluation-answer span, .dataset-part p")
    readable(page, ".evaluation-filters select, .evaluation-filters label")
    page.goto(reverse("admin:finetune_evaluation_new"))
    seen(page, "evaluation-new")
    readable(page, ".form-page label, .form-page input:not([type=hidden])")


@pytest.fixture
def sweep(owner: User, imported: Importer) -> Sweep:
    version = imported(chats(30), test=0.1)
    sweep = Sweep.objects.create(
        kind=Sweep.KIND,
        queue="train",
        owner=owner,
        name="trams-grid",
        method="sft",
        dataset_label=str(version),
        space={"learning_rate": [1e-4, 2e-4, 5e-4], "lora_r": [8, 16]},
        trials=6,
    )
    jobs = []
    for number in range(6):
        job = under_way(training(owner, version, f"trams-grid-{number}"))
        values = {"learning_rate": (1e-4, 2e-4, 5e-4)[number % 3], "lora_r": (8, 16)[number % 2]}
        TrainingJob.objects.filter(pk=job.pk).update(trial=number + 1, trial_values=values)
        Job.objects.filter(pk=job.pk).update(parent=sweep.pk)
        for point in TrainingMetric.objects.filter(job=job, values__has_key="eval_loss"):
            point.values["eval_loss"] += 0.07 * number
            point.save()
        made = succeeded(job)
        ModelVersion.objects.filter(pk=made.pk).update(mlflow_run_id="abc")
        jobs.append(job)
    Job.objects.filter(pk=jobs[5].pk).update(status="failed", error="Memory ran out.")
    Sweep.objects.filter(pk=sweep.pk).update(best=jobs[0])
    Job.objects.filter(pk=sweep.pk).update(status="succeeded")
    return sweep


def test_a_sweep(page: Page, sweep: Sweep) -> None:
    page.goto(reverse("admin:finetune_sweep_change", args=[sweep.pk]))
    expect(page.locator(".sweep-chart polyline[data-best]")).to_have_count(1)
    seen(page, "sweep")
    readable(page, ".sweep-chart text", what="fill")
    readable(page, ".sweep-chart polyline, .sweep-chart .axis", least=DRAWN, what="stroke")
    readable(page, ".console-table td, .console-table th")
    page.goto(reverse("admin:finetune_sweep_new"))
    seen(page, "sweep-new")
    readable(page, ".form-page textarea, .form-page label")
    page.goto(reverse("admin:finetune_sweep_delete", args=[sweep.pk]))
    expect(page.get_by_text("Trainings: 6")).to_be_visible()
    seen(page, "sweep-delete")


@pytest.fixture
def recogniser(owner: User, imported: Importer) -> ModelVersion:
    """A version as a training of lines leaves it, with the curve of its errors."""
    job = under_way(training(owner, imported(chats(30), test=0.1), "letters"))
    settings_found = {"train_rows": 4200, "characters": CHARACTERS, "batch_size": 32}
    TrainingJob.objects.filter(pk=job.pk).update(
        method="ocr-recognition", trained_tokens=0, settings_found=settings_found, base=None
    )
    for point in TrainingMetric.objects.filter(job=job, values__has_key="eval_loss"):
        point.values["eval_cer"] = 0.9 / point.step
        point.save()
    made = succeeded(job)
    made.form, made.language_model = "recogniser", None
    made.parity = {
        "tolerance": 1e-3,
        "lines": 16,
        "fit": True,
        "reloaded": {"max_difference": 0.0, "agree": True},
        "onnx": {"max_difference": 2.4e-5, "agree": True},
    }
    made.facts = {
        "method": "ocr-recognition",
        "dataset": "lines v1",
        "options": {"height": 32, "max_width": 960},
        "characters": CHARACTERS,
        "languages": ["en", "ko"],
        "metrics": {"eval_cer": 0.015},
    }
    made.save()
    trained_engine_save(
        name=made.name, number=1, source=made.source, languages=["en", "ko"], cer=0.015
    )
    return made


CHARACTERS = "".join(map(chr, range(33, 127))) + "".join(map(chr, range(0xAC00, 0xAC00 + 400)))


def test_a_recogniser(page: Page, recogniser: ModelVersion) -> None:
    page.goto(reverse("admin:finetune_trainingjob_change", args=[recogniser.job_id]))
    figures = page.locator(".training-figures")
    expect(figures).to_contain_text("7,560 lines seen")
    expect(figures).to_contain_text(f"best {percent(0.015)}, step 60")
    expect(page.locator("[data-part=found]")).to_contain_text("494: !")
    expect(page.locator("[data-part=result]")).to_contain_text("easyocr:letters@1")
    seen(page, "recogniser-job")
    page.goto(reverse("admin:finetune_modelversion_change", args=[recogniser.pk]))
    panel = page.locator("section[aria-labelledby=recogniser-title]")
    expect(panel).to_contain_text("1.50 % before: 4.50 % at step 20")
    expect(panel).to_contain_text("32 pixels high, up to 960 wide")
    expect(panel).to_contain_text("-F engine=recogniser:letters@1")
    expect(page.locator("section[aria-labelledby=parity-title]")).to_contain_text("in 16 lines")
    seen(page, "recogniser-version")
    readable(page, ".recogniser-alphabet, .recogniser-calls pre, .dataset-facts dd")


def test_an_adapter(page: Page, owner: User, imported: Importer) -> None:
    made = succeeded(
        under_way(training(owner, imported(chats(30), test=0.1))), callable_as="trams-sft@1"
    )
    page.goto(reverse("admin:finetune_modelversion_change", args=[made.pk]))
    page.get_by_role("button", name="Merge").click()
    expect(page.get_by_text("Merge of trams-sft v1").first).to_be_visible()
    seen(page, "merge")
    page.goto(reverse("admin:finetune_modelversion_change", args=[made.pk]))
    seen(page, "adapter-version")
    readable(page, ".version-merge label, .version-merge input, .traffic li")
