"""EasyOCR's recognisers: the stock ones by language, and custom ones from a folder."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.exceptions import EngineUnavailable, JobFailed
from ocr.languages import LANGUAGES

# ISO 639-1 where EasyOCR has a code of its own.
_CODES = {"zh-Hans": "ch_sim", "zh-Hant": "ch_tra", "sr": "rs_cyrillic"}
_LANGUAGES = {code: language for language, code in _CODES.items()}
# Each language's stock recogniser; Latin scripts share one but for English, which has its own.
_STOCK = {
    "en": "english_g2",
    "th": "thai_g1",
    "zh-Hant": "zh_tra_g1",
    "zh-Hans": "zh_sim_g2",
    "ja": "japanese_g2",
    "ko": "korean_g2",
    "ta": "tamil_g1",
    "te": "telugu_g2",
    "kn": "kannada_g2",
    "bn": "bengali_g1",
    **dict.fromkeys(("ar", "fa", "ur"), "arabic_g1"),
    **dict.fromkeys(("hi", "mr", "ne"), "devanagari_g1"),
    **dict.fromkeys(("bg", "mn", "ru", "sr", "uk"), "cyrillic_g2"),
}
_LATIN = "latin_g2"
_LATIN_CODES = {code for code, language in LANGUAGES.items() if language.script == "Latn"}
STOCK_LANGUAGES = frozenset(_STOCK) | (_LATIN_CODES - {"ca", "eo", "eu", "fi", "gl"})


def easyocr_codes(languages: tuple[str, ...]) -> list[str]:
    """What EasyOCR calls these languages."""
    return [_CODES.get(language, language) for language in languages]


def stock_recogniser(languages: tuple[str, ...]) -> str:
    """The name of the stock recogniser that reads these languages. Raises JobFailed if none does.

    Each script's recogniser knows English beside its own languages.
    """
    names = {_STOCK.get(language, _LATIN) for language in languages}
    if len(names) > 1:
        names.discard(_STOCK["en"])
    if len(names) > 1:
        raise JobFailed(
            f"EasyOCR has no recogniser for {'+'.join(languages)} together: "
            "ask for the languages in separate jobs.",
            code="unsupported_language",
        )
    return names.pop()


def stock_entry(library: Any, name: str) -> dict[str, Any]:
    """EasyOCR's own record of a stock recogniser: `filename`, `md5sum` and more."""
    models = library.recognition_models
    return (models["gen1"] | models["gen2"])[name]


def present_languages(library: Any, folder: Path) -> frozenset[str]:
    """The languages whose stock recogniser is in the folder."""
    return frozenset(
        language
        for language in STOCK_LANGUAGES
        if (folder / stock_entry(library, _STOCK.get(language, _LATIN))["filename"]).is_file()
    )


@dataclass(frozen=True, slots=True)
class CustomRecogniser:
    """A recogniser in EasyOCR's custom format: NAME.py (its network), NAME.yaml, NAME.pth.

    NAME.py is run and NAME.pth unpickled, so both are to be trusted like the platform's own code.
    `label`: what it is called in results, in place of its name.
    """

    name: str
    weights: Path
    network: Path
    settings: Path
    label: str = ""

    def require_files(self) -> None:
        """Raises EngineUnavailable naming a file that is missing."""
        for path in (self.weights, self.network, self.settings):
            if not path.is_file():
                raise EngineUnavailable(
                    f"The easyocr engine's recogniser '{self.name}' lacks the file {path}. It is "
                    f"made of {self.name}.pth, {self.name}.py and {self.name}.yaml."
                )

    def languages(self) -> tuple[str, ...]:
        """What its `lang_list` says it reads, as ISO codes."""
        return tuple(_LANGUAGES.get(code, code) for code in self._described()["lang_list"])

    def alphabet(self) -> frozenset[str]:
        """The characters it tells apart."""
        return frozenset(self._described()["character_list"])

    def version(self) -> str:
        """Its name with a short hash of weights and settings."""
        digest = hashlib.sha256(self.weights.read_bytes() + self.settings.read_bytes())
        return f"{self.label or self.name} {digest.hexdigest()[:12]}"

    def _described(self) -> dict[str, Any]:
        return yaml.safe_load(self.settings.read_text(encoding="utf-8"))

    @contextmanager
    def importable(self) -> Iterator[None]:
        """While this lasts `import NAME` gives this recogniser's network.

        EasyOCR finds it by adding its folder to sys.path for good: a library of the same name, or
        another recogniser's network, would be taken for it.
        """
        spec = importlib.util.spec_from_file_location(self.name, self.network)
        if spec is None or spec.loader is None:
            raise EngineUnavailable(f"{self.network} is no Python module.")
        module = importlib.util.module_from_spec(spec)
        path, hidden = list(sys.path), sys.modules.get(self.name)
        sys.modules[self.name] = module
        try:
            spec.loader.exec_module(module)
            yield
        finally:
            sys.path[:] = path
            del sys.modules[self.name]
            if hidden is not None:
                sys.modules[self.name] = hidden
