"""The review page in a real browser, by keyboard and mouse, alone and beside a second annotator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Locator, Page, Route, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from mlops.models import User
from ocr import services
from ocr.models import Correction, PageResult, PageReview
from tests.factories import DocumentFactory, OcrJobFactory, PageResultFactory, StaffFactory

pytestmark = [
    pytest.mark.browser,
    # The live server answers from threads of its own, which see only what is committed.
    pytest.mark.django_db(transaction=True),
]

WIDTH, HEIGHT, PITCH = 800, 1000, 40
# What is drawn, and what the engine made of it.
LINES = [
    ("Minutes of the harbour board", "Minutes of the harbour board", 0.99),
    ("The board met on the third of May", "The hoard met on the third of May", 0.62),
    ("and heard the report of the pilot.", "and heard the report of the pilot.", 0.97),
    ("Dredging of the north basin began", "Dredqing of the north basin began", 0.55),
    ("in April and will last until June.", "in April and will last until June.", 0.98),
    ("Two lamps were replaced.", "Two 1amps were rep1aced.", 0.48),
]

Visit = Callable[..., Page]


def drawn(texts: list[str], pages: int = 1) -> bytes:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    for n, text in enumerate(texts):
        pen.text((60, 60 + n * PITCH), text, font=ImageFont.load_default(24), fill="black")
    target = BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def place(number: int, right: int = 500) -> list[list[float]]:
    top = 60 + number * PITCH
    return [[55, top], [right, top], [right, top + 30], [55, top + 30]]


def make_page(
    name: str, confidence: float, *, lines: list[Any] = LINES, **given: Any
) -> PageResult:
    document = DocumentFactory(name=name, content=drawn([drawn_ for drawn_, _, _ in lines]))
    read = [
        {"text": text, "confidence": sure, "polygon": place(n)}
        for n, (_, text, sure) in enumerate(lines)
    ]
    return PageResultFactory(
        job=OcrJobFactory(document=document),
        lines=read,
        mean_confidence=confidence,
        width=WIDTH,
        height=HEIGHT,
        **given,
    )


@pytest.fixture
def visit(
    request: pytest.FixtureRequest,
    live_server: LiveServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Visit]:
    """Opens a browser of one's own for a user; fails the test if a page's script fails."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("Chromium not found. Install it: apt-get install -y chromium", pytrace=False)
    shots = Path(os.environ.get("BROWSER_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    pages: list[Page] = []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)

        def open_as(user: User, path: str) -> Page:
            client = Client()
            client.force_login(user)
            session = client.cookies[settings.SESSION_COOKIE_NAME].value
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            context.add_cookies(
                [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
            )
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(error.stack or str(error)))
            pages.append(page)
            page.goto(live_server.url + path)
            return page

        yield open_as
        for number, page in enumerate(pages):
            page.screenshot(path=shots / f"{request.node.name}-{number}.png")
        browser.close()
    assert not faults


@pytest.fixture
def minji() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def jun() -> User:
    return StaffFactory(username="jun", role="annotator")


def review_url(result: PageResult) -> str:
    return f"/admin/ocr/pagereview/page/{result.pk}/"


def editor(page: Page) -> Locator:
    return page.locator("#lines .editor textarea")


def rows(page: Page) -> Locator:
    return page.locator("#lines li")


def row_texts(page: Page) -> list[str]:
    return page.locator("#lines .row-text").all_text_contents()


def saved(page: Page) -> None:
    expect(page.locator("#saving")).to_have_attribute("data-state", "saved")


def retype(page: Page, text: str) -> None:
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(text)


def test_three_lines_corrected_by_keyboard_and_on_to_the_next_page(
    visit: Visit, minji: User
) -> None:
    worst, better = make_page("minutes.png", 0.6), make_page("letter.png", 0.9)
    page = visit(minji, "/admin/ocr/pagereview/")
    page.get_by_role("button", name="Start reviewing").click()
    page.wait_for_url(f"**{review_url(worst)}**")
    expect(page.locator("#page-name")).to_have_text("minutes.png")

    # The first uncertain line is in the editor already.
    field = editor(page)
    expect(field).to_be_focused()
    expect(field).to_have_value("The hoard met on the third of May")
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Delete")
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    expect(field).to_have_value("and heard the report of the pilot.")
    page.keyboard.press("Tab")
    expect(field).to_have_value("Dredqing of the north basin began")
    retype(page, "Dredging of the north basin began")
    page.keyboard.press("Tab")
    retype(page, "Two lamps were replaced.")
    page.keyboard.press("Control+Enter")

    page.wait_for_url(f"**{review_url(better)}**")
    expect(page.locator("#page-name")).to_have_text("letter.png")
    expect(page.locator("#page-status")).to_have_text("open")
    review = worst.review
    assert review.text.splitlines() == [drawn_ for drawn_, _, _ in LINES]
    assert (review.status, review.reviewer) == ("accepted", minji)
    kept = Correction.objects.filter(review=review)
    assert [(c.action, c.line_id, c.before, c.after, c.user) for c in kept] == [
        ("edit", str(n + 1), LINES[n][1], LINES[n][0], minji) for n in (1, 3, 5)
    ]
    assert kept[0].box == place(1)

    # Nothing is left behind the second page.
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Nothing is left to review")).to_be_visible()
    assert better.review.status == "accepted"


def test_what_was_saved_is_there_after_a_reload(visit: Visit, minji: User) -> None:
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))
    retype(page, "The board met on the third of May")
    page.keyboard.press("Enter")
    expect(page.locator("#corrected-count")).to_have_text("1")
    saved(page)
    page.reload()
    expect(rows(page)).to_have_count(len(LINES))
    assert row_texts(page)[1] == LINES[1][0]
    expect(rows(page).nth(1)).to_have_attribute("data-level", "corrected")
    expect(page.locator("#low-count")).to_have_text("2")


def test_split_merge_remove_move_and_undo(visit: Visit, minji: User) -> None:
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))
    first = [read for _, read, _ in LINES]

    # Split at the cursor: the second part is in the editor, the cursor at its start.
    page.keyboard.press("Home")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+S")
    expect(rows(page)).to_have_count(7)
    expect(editor(page)).to_have_value("met on the third of May")
    assert row_texts(page)[1:3] == ["The hoard", "met on the third of May"]

    # Merged again, with the next line as well.
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Control+M")
    expect(rows(page)).to_have_count(6)
    expect(editor(page)).to_have_value("The hoard met on the third of May")
    page.keyboard.press("Control+M")
    expect(rows(page)).to_have_count(5)
    assert row_texts(page)[1] == f"{first[1]} {first[2]}"

    page.keyboard.press("Control+Z")
    expect(rows(page)).to_have_count(6)
    assert row_texts(page) == first

    # Moved up, with what was typed before it; then removed; an emptied line goes, too.
    page.keyboard.press("ArrowDown")
    retype(page, "and heard the pilot.")
    page.keyboard.press("Alt+ArrowUp")
    expect(rows(page).nth(1).locator(".row-text")).to_have_text("and heard the pilot.")
    page.keyboard.press("Alt+Delete")
    expect(rows(page)).to_have_count(5)
    page.locator("#lines li").last.locator("button").click()
    retype(page, "")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(4)
    saved(page)
    assert row_texts(page) == [first[0], first[1], first[3], first[4]]
    expect(page.locator("#boxes polygon")).to_have_count(4)

    review = PageReview.objects.get()
    actions = list(review.corrections.values_list("action", flat=True))
    assert actions == ["split", "merge", "merge", "split", "edit", "order", "remove", "remove"]
    assert [line["text"] for line in review.lines] == row_texts(page)
    page.keyboard.press("Escape")
    for _ in range(4):
        page.keyboard.press("Control+Z")
    expect(rows(page)).to_have_count(6)
    saved(page)
    assert row_texts(page) == first


def test_boxes_by_the_mouse(visit: Visit, minji: User) -> None:
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))
    stage = page.locator("#stage")
    scale = stage.bounding_box()["width"] / WIDTH
    origin = stage.bounding_box()

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        """From and to a place of the page, in its pixels."""
        (x, y), (u, v) = start, end
        page.mouse.move(origin["x"] + x * scale, origin["y"] + y * scale)
        page.mouse.down()
        page.mouse.move(origin["x"] + (x + u) / 2 * scale, origin["y"] + (y + v) / 2 * scale)
        page.mouse.move(origin["x"] + u * scale, origin["y"] + v * scale)
        page.mouse.up()

    # A line that the engine missed, drawn below the last.
    page.get_by_role("button", name="Add line").click()
    drag((300, 320), (520, 350))
    expect(editor(page)).to_be_focused()
    page.keyboard.type("a note in the margin")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(7)
    saved(page)
    added = PageReview.objects.get().lines[6]
    assert (added["text"], added["by"]) == ("a note in the margin", "minji")
    assert added["polygon"][0] == pytest.approx([300, 320], abs=2)
    assert added["polygon"][2] == pytest.approx([520, 350], abs=2)

    # A click on a box edits its line; then the box is moved, and its corner pulled.
    page.mouse.click(origin["x"] + 200 * scale, origin["y"] + 275 * scale)
    expect(editor(page)).to_have_value(LINES[5][1])
    drag((200, 275), (220, 295))
    expect(page.locator("#saving")).to_have_attribute("data-state", "saved")
    wait_for_correction(page, "box", 1)
    moved = PageReview.objects.get().line("6")["polygon"]
    assert moved[0] == pytest.approx([75, 280], abs=2)
    drag((moved[2][0], moved[2][1]), (640, 330))
    wait_for_correction(page, "box", 2)
    assert PageReview.objects.get().line("6")["polygon"][2] == pytest.approx([640, 330], abs=2)

    # Escape leaves a drawing without a line.
    page.keyboard.press("a")
    drag((300, 700), (420, 730))
    expect(rows(page)).to_have_count(8)
    page.keyboard.press("Escape")
    expect(rows(page)).to_have_count(7)
    assert Correction.objects.count() == 3


def wait_for_correction(page: Page, action: str, count: int) -> None:
    for _ in range(100):
        if Correction.objects.filter(action=action).count() >= count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"there are no {count} corrections '{action}'")


def test_two_annotators_see_each_other_and_overwrite_nothing(
    visit: Visit, minji: User, jun: User
) -> None:
    result = make_page("minutes.png", 0.6)
    one, other = visit(minji, review_url(result)), visit(jun, review_url(result))

    # Different lines: both are kept, and come to the other by themselves.
    retype(one, "The board met on the third of May")
    one.keyboard.press("Enter")
    other.locator("#lines li").nth(5).locator("button").click()
    retype(other, LINES[5][0])
    other.keyboard.press("Enter")
    texts = one.locator("#lines .row-text")
    expect(texts.nth(5)).to_have_text(LINES[5][0], timeout=15_000)
    expect(rows(one).nth(5).locator(".row-by")).to_have_text("jun")
    expect(other.locator("#lines .row-text").nth(1)).to_have_text(LINES[1][0], timeout=15_000)
    saved(one)
    saved(other)

    # The same line: the second one is shown what the first wrote, and loses nothing.
    for page in (one, other):
        page.locator("#lines li").nth(3).locator("button").click()
    retype(other, "Dredging of the basin began")
    retype(one, "Dredging of the north basin began")
    one.keyboard.press("Enter")
    saved(one)
    other.keyboard.press("Enter")
    note = other.locator(".row-conflict")
    expect(note).to_be_visible()
    expect(note).to_contain_text("minji has changed this line to")
    expect(note).to_contain_text("Dredging of the north basin began")
    expect(rows(other).nth(3).locator(".row-text")).to_have_text("Dredging of the basin began")
    expect(other.locator("#saving")).to_have_attribute("data-state", "conflict")
    assert PageReview.objects.get().line("4")["text"] == "Dredging of the north basin began"

    # Nobody accepts a page over an open question.
    other.keyboard.press("Control+Enter")
    expect(other.get_by_role("alert").filter(has_text="not stored yet")).to_be_visible()
    assert PageReview.objects.get().status == "open"
    note.get_by_role("button", name="Take theirs").click()
    expect(editor(other)).to_have_value("Dredging of the north basin began")
    saved(other)
    edits = Correction.objects.values_list("user__username", "line_id")
    assert list(edits) == [("minji", "2"), ("jun", "6"), ("minji", "4")]

    # Once it is accepted, the other sees that, too.
    one.keyboard.press("Control+Enter")
    expect(other.locator("#standing")).to_contain_text("Accepted by minji", timeout=15_000)
    expect(editor(other)).not_to_be_editable()


def test_ones_own_text_wins_where_one_says_so(visit: Visit, minji: User, jun: User) -> None:
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))
    retype(page, "mine")
    review = services.review_open(result=result, user=jun)
    services.line_edit(review=review, user=jun, version=0, line_id="2", text="his")
    page.keyboard.press("Enter")
    expect(page.locator(".row-conflict")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(editor(page)).to_have_value("mine")
    page.keyboard.press("Enter")
    expect(page.locator(".row-conflict")).to_have_count(0)
    saved(page)
    assert PageReview.objects.get().line("2")["text"] == "mine"
    assert list(Correction.objects.values_list("before", "after")) == [
        (LINES[1][1], "his"),
        ("his", "mine"),
    ]


def test_offline_keeps_what_was_typed(visit: Visit, minji: User) -> None:
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))

    def cut(route: Route) -> None:
        route.abort("internetdisconnected")

    page.route("**/api/v1/ocr/reviews/**", cut)
    retype(page, "typed without a network")
    page.keyboard.press("Enter")
    expect(page.locator("#saving-text")).to_contain_text("Offline")
    expect(page.locator("#saving-text")).to_contain_text("1 change kept")
    assert row_texts(page)[1] == "typed without a network"

    # Not even a crash of the browser's tab loses it.
    page.on("dialog", lambda dialog: dialog.accept())
    page.unroute("**/api/v1/ocr/reviews/**", cut)
    page.reload()
    expect(page.locator("#corrected-count")).to_have_text("1")
    saved(page)
    assert PageReview.objects.get().line("2")["text"] == "typed without a network"


def test_an_input_method_keeps_its_enter(visit: Visit, minji: User) -> None:
    """While a syllable is being composed Enter ends the syllable, not the line."""
    result = make_page("minutes.png", 0.6)
    page = visit(minji, review_url(result))
    field = editor(page)
    page.keyboard.press("Control+A")
    devtools = page.context.new_cdp_session(page)
    for syllable in ("ㅎ", "하", "한"):
        devtools.send(
            "Input.imeSetComposition", {"text": syllable, "selectionStart": 1, "selectionEnd": 1}
        )
    enter = {"key": "Enter", "code": "Enter", "keyCode": 229, "isComposing": True, "bubbles": True}
    field.evaluate("(f, how) => f.dispatchEvent(new KeyboardEvent('keydown', how))", enter)
    expect(field).to_be_focused()
    expect(rows(page).nth(1)).to_contain_class("is-active")
    assert not Correction.objects.exists()
    devtools.send("Input.insertText", {"text": "한글"})
    page.keyboard.press("Enter")
    expect(rows(page).nth(2)).to_contain_class("is-active")
    saved(page)
    assert PageReview.objects.get().line("2")["text"] == "한글"


def test_flag_skip_and_reopen(visit: Visit, minji: User) -> None:
    first, second = make_page("minutes.png", 0.6), make_page("letter.png", 0.9)
    page = visit(minji, review_url(first))
    page.keyboard.press("Alt+F")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.type("a page is missing")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(f"**{review_url(second)}**")
    assert (first.review.status, first.review.note) == ("flagged", "a page is missing")
    page.keyboard.press("Alt+N")
    expect(page.get_by_text("Nothing is left to review")).to_be_visible()
    page.get_by_role("link", name="Back to the queue").last.click()
    page.get_by_role("link", name="Flagged").click()
    expect(page.locator("tbody")).to_contain_text("a page is missing")
    page.get_by_role("link", name="minutes.png").click()
    expect(page.locator("#standing")).to_contain_text("Flagged by minji: a page is missing")
    page.keyboard.press("Alt+R")
    expect(page.locator("#page-status")).to_have_text("open")


def test_help_lists_keys_and_the_wheel_zooms(visit: Visit, minji: User) -> None:
    page = visit(minji, review_url(make_page("minutes.png", 0.6)))
    page.keyboard.press("F1")
    help_ = page.get_by_role("dialog", name="Keys")
    expect(help_).to_be_visible()
    expect(help_).to_contain_text("Split at the cursor")
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    expect(page.locator("#zoom-level")).to_have_text("100 %")
    assert page.locator("#stage").bounding_box()["width"] == WIDTH
    page.locator("#stage").hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    expect(page.locator("#zoom-level")).to_have_text("165 %")


def test_a_turned_page_stands_upright(visit: Visit, minji: User) -> None:
    """The image is turned as the engine's page was, so that the boxes lie on the lines."""
    upright = Image.open(BytesIO(drawn([text for text, _, _ in LINES])))
    target = BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(target, "PNG")
    document = DocumentFactory(name="turned.png", content=target.getvalue())
    lines = [{"text": LINES[0][1], "confidence": 0.9, "polygon": place(0)}]
    result = PageResultFactory(
        job=OcrJobFactory(document=document), lines=lines, width=WIDTH, height=HEIGHT, rotation=90
    )
    page = visit(minji, review_url(result))
    image = page.locator("#page-image")
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [WIDTH, HEIGHT]
    answer = page.request.get(page.url.partition("?")[0] + "image")
    shown = Image.open(BytesIO(answer.body())).convert("L")
    assert shown.crop((55, 60, 500, 90)).getextrema()[0] < 60
    assert shown.crop((55, 400, 500, 900)).getextrema()[0] > 200


def test_three_hundred_lines_open_within_a_second(visit: Visit, minji: User) -> None:
    lines = [(f"line {n}", f"line {n}", 0.5 + n / 1000) for n in range(300)]
    result = make_page("long.png", 0.6, lines=lines)
    page = visit(minji, review_url(result))
    # Once more, with everything that a second page finds in the cache.
    page.reload()
    expect(rows(page)).to_have_count(300)
    ready = page.evaluate(
        """() => {
            const [entry] = performance.getEntriesByType("navigation");
            return entry.domContentLoadedEventEnd - entry.responseEnd;
        }"""
    )
    assert ready < 1000, f"{ready} ms from the answer to the list"


def test_two_readings_side_by_side(visit: Visit, minji: User) -> None:
    one = make_page("minutes.png", 0.6)
    other = PageResultFactory(
        job=OcrJobFactory(document=one.job.document, engine="tesseract"),
        engine="tesseract",
        width=WIDTH,
        height=HEIGHT,
        lines=[
            {"text": text, "confidence": 0.9, "polygon": place(n)}
            for n, (text, _, _) in enumerate(LINES)
        ],
    )
    operator = StaffFactory(username="op", role="operator")
    page = visit(operator, f"/admin/ocr/document/{one.job.document_id}/change/")
    page.get_by_role("link", name="Compare").click()
    rows_ = page.locator(".compare-rows tbody tr")
    expect(rows_).to_have_count(len(LINES))
    assert page.locator(".compare-rows del").all_text_contents() == [
        "hoard",
        "Dredqing",
        "1amps",
        "rep1aced.",
    ]
    assert page.locator(".compare-rows ins").all_text_contents()[0] == "board"
    rows_.nth(3).hover()
    boxes = page.locator("#stage polygon[data-row='4']")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_contain_class("is-active")
    expect(page.locator("#stage polygon:visible")).to_have_count(6)
    page.get_by_label("Boxes that differ only").uncheck()
    expect(page.locator("#stage polygon:visible")).to_have_count(12)
    assert other.job.document == one.job.document
