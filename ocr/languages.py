"""The languages the platform knows, and the many names that people give them.

Inside, a language is its ISO 639-1 code, with a script where one language has two (zh-Hans,
zh-Hant). `auto` is no language: it asks the caller to find out.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Language:
    """One language: `script` is its ISO 15924 code, `tesseract` the name of its trained data."""

    code: str
    name: str
    native_name: str
    script: str
    tesseract: str
    aliases: tuple[str, ...] = ()


class UnknownLanguage(ValueError):
    """No language goes by that name; the message offers the nearest ones."""

    def __init__(self, value: str, near: tuple[str, ...]) -> None:
        hint = f"did you mean {', '.join(near)}?" if near else "give an ISO code such as en or ko."
        super().__init__(f"Unknown language {value!r}: {hint}")
        self.value = value
        self.near = near


_LATIN = """
en|English|English|eng|en-us,en-gb
fr|French|Français|fra|fre,french
de|German|Deutsch|deu|ger,german
es|Spanish|Español|spa|castilian
it|Italian|Italiano|ita|
pt|Portuguese|Português|por|pt-br,pt-pt
nl|Dutch|Nederlands|nld|dut
sv|Swedish|Svenska|swe|
da|Danish|Dansk|dan|
no|Norwegian|Norsk|nor|nb,nn
fi|Finnish|Suomi|fin|
is|Icelandic|Íslenska|isl|ice
pl|Polish|Polski|pol|
cs|Czech|Čeština|ces|cze
sk|Slovak|Slovenčina|slk|slo
sl|Slovenian|Slovenščina|slv|slovene
hr|Croatian|Hrvatski|hrv|
bs|Bosnian|Bosanski|bos|
hu|Hungarian|Magyar|hun|
ro|Romanian|Română|ron|rum
et|Estonian|Eesti|est|
lv|Latvian|Latviešu|lav|
lt|Lithuanian|Lietuvių|lit|
sq|Albanian|Shqip|sqi|alb
tr|Turkish|Türkçe|tur|
az|Azerbaijani|Azərbaycan|aze|
id|Indonesian|Bahasa Indonesia|ind|
ms|Malay|Bahasa Melayu|msa|may
tl|Tagalog|Tagalog|fil|filipino
vi|Vietnamese|Tiếng Việt|vie|
sw|Swahili|Kiswahili|swa|
af|Afrikaans|Afrikaans|afr|
ca|Catalan|Català|cat|valencian
gl|Galician|Galego|glg|
eu|Basque|Euskara|eus|baq
ga|Irish|Gaeilge|gle|
cy|Welsh|Cymraeg|cym|wel
mt|Maltese|Malti|mlt|
la|Latin|Latina|lat|
eo|Esperanto|Esperanto|epo|
"""

_OTHERS = (
    Language("ko", "Korean", "한국어", "Kore", "kor", ("ko-kr", "hangul")),
    Language("ja", "Japanese", "日本語", "Jpan", "jpn", ("japan", "ja-jp", "jp")),
    Language(
        "zh-Hans",
        "Chinese (simplified)",
        "简体中文",
        "Hans",
        "chi_sim",
        ("zh", "ch", "chi", "zho", "chinese", "chs", "zh-cn", "zh-sg", "simplified chinese"),
    ),
    Language(
        "zh-Hant",
        "Chinese (traditional)",
        "繁體中文",
        "Hant",
        "chi_tra",
        ("cht", "chinese_cht", "zh-tw", "zh-hk", "zh-mo", "traditional chinese"),
    ),
    Language("ru", "Russian", "Русский", "Cyrl", "rus"),
    Language("uk", "Ukrainian", "Українська", "Cyrl", "ukr"),
    Language("bg", "Bulgarian", "Български", "Cyrl", "bul"),
    Language("mk", "Macedonian", "Македонски", "Cyrl", "mkd"),
    Language("sr", "Serbian", "Српски", "Cyrl", "srp"),
    Language("kk", "Kazakh", "Қазақша", "Cyrl", "kaz"),
    Language("mn", "Mongolian", "Монгол", "Cyrl", "mon"),
    Language("el", "Greek", "Ελληνικά", "Grek", "ell", ("gre",)),
    Language("ar", "Arabic", "العربية", "Arab", "ara"),
    Language("fa", "Persian", "فارسی", "Arab", "fas", ("per", "farsi")),
    Language("ur", "Urdu", "اردو", "Arab", "urd"),
    Language("he", "Hebrew", "עברית", "Hebr", "heb", ("iw",)),
    Language("hi", "Hindi", "हिन्दी", "Deva", "hin"),
    Language("mr", "Marathi", "मराठी", "Deva", "mar"),
    Language("ne", "Nepali", "नेपाली", "Deva", "nep"),
    Language("bn", "Bengali", "বাংলা", "Beng", "ben", ("bangla",)),
    Language("ta", "Tamil", "தமிழ்", "Taml", "tam"),
    Language("te", "Telugu", "తెలుగు", "Telu", "tel"),
    Language("kn", "Kannada", "ಕನ್ನಡ", "Knda", "kan"),
    Language("ml", "Malayalam", "മലയാളം", "Mlym", "mal"),
    Language("th", "Thai", "ไทย", "Thai", "tha"),
    Language("km", "Khmer", "ខ្មែរ", "Khmr", "khm"),
    Language("lo", "Lao", "ລາວ", "Laoo", "lao"),
    Language("my", "Burmese", "မြန်မာ", "Mymr", "mya", ("myanmar",)),
    Language("ka", "Georgian", "ქართული", "Geor", "kat", ("geo",)),
    Language("hy", "Armenian", "Հայերեն", "Armn", "hye", ("arm",)),
)


def _latin() -> tuple[Language, ...]:
    """The Latin-script table above, a language a row."""
    rows = (row.split("|") for row in _LATIN.strip().splitlines())
    return tuple(
        Language(code, name, native, "Latn", data, tuple(filter(None, aliases.split(","))))
        for code, name, native, data, aliases in rows
    )


LANGUAGES: dict[str, Language] = {lang.code: lang for lang in (*_latin(), *_OTHERS)}


def _key(name: str) -> str:
    """How names are compared: case and the choice of - or _ do not matter."""
    return name.strip().casefold().replace("_", "-")


_BY_NAME: dict[str, str] = {
    _key(name): lang.code
    for lang in LANGUAGES.values()
    for name in (lang.code, lang.name, lang.native_name, lang.tesseract, *lang.aliases)
}


def language_code(name: str) -> str:
    """The code of one language by any of its names; raises UnknownLanguage."""
    key = _key(name)
    if key in _BY_NAME:
        return _BY_NAME[key]
    # A region that needs no entry of its own (fr-CA, de_AT.UTF-8) falls back on its language.
    code = _BY_NAME.get(re.split(r"[-.@]", key)[0])
    if code is not None and re.fullmatch(r"[a-z]{2}-[a-z]{2}([.@].*)?", key):
        return code
    near = {_BY_NAME[match]: match for match in difflib.get_close_matches(key, _BY_NAME, 4, 0.7)}
    raise UnknownLanguage(name, tuple(f"{code} ({LANGUAGES[code].name})" for code in near))


def parse_languages(text: str) -> tuple[str, ...]:
    """`"kor+eng"` -> `("ko", "en")`: names joined by + or a comma, in order, each once.

    `"auto"` stays `("auto",)`; it can't be joined with others. Raises UnknownLanguage.
    """
    names = [part for part in re.split(r"[+,;]", text) if part.strip()]
    if [_key(name) for name in names] == [AUTO]:
        return (AUTO,)
    if not names or AUTO in map(_key, names):
        raise UnknownLanguage(text, ())
    return tuple(dict.fromkeys(language_code(name) for name in names))
