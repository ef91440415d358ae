"""The formats that people have their data in, and the canonical form that each is brought into."""

from finetune.formats.base import KINDS, Format, Given, Kind, Row, Trouble, Troubles
from finetune.formats.kinds import View, texts_of, view_of
from finetune.formats.recognise import FORMATS, Recognised, recognise

__all__ = [
    "FORMATS",
    "KINDS",
    "Format",
    "Given",
    "Kind",
    "Recognised",
    "Row",
    "Trouble",
    "Troubles",
    "View",
    "recognise",
    "texts_of",
    "view_of",
]
