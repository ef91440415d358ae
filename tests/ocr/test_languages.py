"""Every name that people give a language leads to one code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr.languages import LANGUAGES, UnknownLanguage, language_code, parse_languages

CODES = st.sampled_from(sorted(LANGUAGES))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("kor+eng", ("ko", "en")),
        ("ko,en", ("ko", "en")),
        ("korean", ("ko",)),
        ("ko-KR", ("ko",)),
        ("한국어", ("ko",)),
        ("eng", ("en",)),
        ("English", ("en",)),
        ("en_US", ("en",)),
        ("japan", ("ja",)),
        ("jpn", ("ja",)),
        ("ch", ("zh-Hans",)),
        ("zh", ("zh-Hans",)),
        ("chinese", ("zh-Hans",)),
        ("zh-TW", ("zh-Hant",)),
        ("chi_tra", ("zh-Hant",)),
        ("fr-CA", ("fr",)),
        (" kor + eng + korean ", ("ko", "en")),
        ("auto", ("auto",)),
        ("AUTO", ("auto",)),
    ],
)
def test_names_in_use(text: str, codes: tuple[str, ...]) -> None:
    assert parse_languages(text) == codes


def test_no_name_means_two_languages() -> None:
    for language in LANGUAGES.values():
        for name in (language.code, language.name, language.native_name, language.tesseract):
            assert language_code(name) == language.code
        for alias in language.aliases:
            assert language_code(alias) == language.code


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownLanguage) as caught:
        parse_languages("kor+koreean")
    assert "'koreean'" in str(caught.value)
    assert "ko (Korean)" in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", "+", "xx", "auto+ko", "ko-xyz", "klingon"])
def test_what_is_no_language_is_refused(text: str) -> None:
    with pytest.raises(UnknownLanguage):
        parse_languages(text)


@given(st.lists(CODES, min_size=1, max_size=5), st.sampled_from(["+", ",", " + "]))
def test_codes_come_back_in_order_and_once(codes: list[str], joint: str) -> None:
    assert parse_languages(joint.join(codes)) == tuple(dict.fromkeys(codes))


@given(st.text(max_size=20))
def test_any_text_gives_known_codes_or_an_explanation(text: str) -> None:
    try:
        codes = parse_languages(text)
    except UnknownLanguage as error:
        assert str(error)
    else:
        assert codes
        assert set(codes) <= {*LANGUAGES, "auto"}
