"""The languages that a recogniser is for, by EasyOCR's codes or any name of ours."""

from __future__ import annotations

from finetune.engines.base import TrainingFailed
from finetune.engines.configs import OcrRecognitionConfig
from ocr.engines.easyocr_models import easyocr_codes
from ocr.languages import LANGUAGES, UnknownLanguage, language_code


def languages_of(config: OcrRecognitionConfig) -> tuple[str, ...]:
    """As ISO codes. Raises TrainingFailed."""
    known = {easyocr_codes((code,))[0]: code for code in LANGUAGES}
    names = [name.strip() for name in config.languages.split(",") if name.strip()]
    try:
        found = tuple(dict.fromkeys(known.get(name) or language_code(name) for name in names))
    except UnknownLanguage as error:
        raise TrainingFailed(f"languages: {error}", code="invalid_option") from error
    if not found:
        raise TrainingFailed(
            "languages: name one at least, en for example: requests ask for it.",
            code="invalid_option",
        )
    return found
