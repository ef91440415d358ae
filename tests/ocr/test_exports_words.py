"""Where words stand in a line, and how lines become Markdown."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lxml import html
from markdown_it import MarkdownIt

from ocr.exports import markdown
from ocr.exports.page import PageBlock, PageLine, PageText
from ocr.exports.words import advance, frame, words
from tests.ocr.printed import printed


class TestWords:
    def test_estimate_is_near_the_truth(self) -> None:
        page = printed(["Shelf mark K-1037 of the annex", "WILL ill MAMMAL 1,234.50"])
        guessed = [word for one in page.lines for word in words(page_line(one))]
        assert [word.text for word in guessed] == [word for word, _box in page.words]
        for word, (_text, (left, _top, right, _bottom)) in zip(guessed, page.words, strict=True):
            shared = min(word.box[2], right) - max(word.box[0], left)
            whole = max(word.box[2], right) - min(word.box[0], left)
            assert shared / whole > 0.7, word

    def test_wide_letters_count_twice(self) -> None:
        one, two = words(PageLine("합계 ab", 0.9, ((0, 0), (325, 0), (325, 40), (0, 40))))
        assert one.end == pytest.approx(2 / 3.3, abs=0.02)
        assert two.begin - one.end == pytest.approx(0.25 / 3.3, abs=0.02)

    def test_words_of_a_slanted_line_follow_it(self) -> None:
        first, second = words(PageLine("up hill", 0.9, ((0, 100), (100, 0), (110, 10), (10, 110))))
        assert first.polygon[0] == pytest.approx((0, 100))
        assert second.polygon[1] == pytest.approx((100, 0))
        assert math.degrees(frame(PageLine("a b", 1, first.polygon)).angle) == pytest.approx(-45)

    def test_tall_box_of_one_letter_is_no_line_that_runs_down(self) -> None:
        corners = ((0, 0), (10, 0), (10, 40), (0, 40))
        assert frame(PageLine("1", 0.9, corners)).angle == 0
        assert frame(PageLine("11", 0.9, corners)).angle == pytest.approx(math.pi / 2)


def page_line(one: dict[str, Any]) -> PageLine:
    return PageLine(one["text"], one["confidence"], tuple(map(tuple, one["polygon"])))


class TestMarkdown:
    @hypothesis_settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
    @given(
        st.lists(
            st.text(st.sampled_from("ab 1.)*_`#-+=<>&;|[](){}!\\~$\"'한:/@"), min_size=1),
            min_size=1,
        )
    )
    def test_text_comes_back_whatever_it_says(self, said: list[str]) -> None:
        """Lines that look like Markdown are text all the same."""
        said = [text for text in said if text.strip()]
        lines = tuple(
            PageLine(text, 0.9, ((0, 50 * n), (30, 50 * n), (30, 50 * n + 20), (0, 50 * n + 20)))
            for n, text in enumerate(said)
        )
        whole = PageBlock("text", 0, len(lines), (0, 0, 600, 50 * len(lines)))
        written = markdown.page_markdown(PageText(1, 600, 900, lines=lines, blocks=(whole,)))
        shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(written)
        assert letters(html.fromstring(f"<div>{shown}</div>").text_content()) == letters(
            "".join(said)
        )

    def test_running_text_flows_and_an_address_keeps_its_lines(self) -> None:
        running = flowing(
            ["The Dispatch Office opens at eight and", "closes at five, but on days of inven-"],
            ["tory it is closed until noon."],
        )
        assert running == (
            "The Dispatch Office opens at eight and closes at five, but on days of inventory it is "
            "closed until noon.\n"
        )
        address = "12 Mill Lane\\\nSpringfield\\\nTel. 555\n"
        assert flowing([], ["12 Mill Lane", "Springfield", "Tel. 555"]) == address
        assert flowing(["12 Mill Lane", "Springfield", "Tel. 555"], []) == address

    def test_chinese_lines_join_without_a_space_korean_ones_with(self) -> None:
        assert (
            flowing(["發票番號合計金額發票番號合計金額"], ["一千二百元"])
            == "發票番號合計金額發票番號合計金額一千二百元\n"
        )
        assert (
            flowing(["대한민국의 모든 국민은 법 앞에"], ["평등하다"])
            == "대한민국의 모든 국민은 법 앞에 평등하다\n"
        )

    def test_bullets_are_a_list(self) -> None:
        assert flowing([], ["• one", "• two"]) == "- one\n- two\n"


def flowing(full: list[str], short: list[str]) -> str:
    """A block in one size of type; its `full` lines reach the margin, its `short` ones do not."""
    longest = max((ems(text) for text in full), default=40)
    sized = [(text, 600) for text in full] + [
        (text, min(600 * ems(text) / longest, 400)) for text in short
    ]
    lines = tuple(
        PageLine(text, 0.9, ((0, 30 * n), (right, 30 * n), (right, 30 * n + 20), (0, 30 * n + 20)))
        for n, (text, right) in enumerate(sized)
    )
    whole = PageBlock("text", 0, len(lines), (0, 0, 600, 30 * len(lines)))
    return markdown.page_markdown(PageText(1, 600, 900, lines=lines, blocks=(whole,)))


def ems(text: str) -> float:
    return sum(map(advance, text))


def letters(text: str) -> str:
    return re.sub(r"\s", "", text)
