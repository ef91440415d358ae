"""What an open document gives: its pages one by one, drawn, or as the text that it itself holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ocr.page_image import PageImage
    from ocr.text_layer import TextLayer


class BadPage(Exception):
    """One page of an otherwise readable document can't be turned into an image."""


class PageSource(ABC):
    """The pages of one open document; safe to call from several threads."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _render(self, index: int) -> PageImage: ...

    @abstractmethod
    def close(self) -> None: ...

    def render(self, index: int) -> PageImage:
        """Page `index`, counted from 0. Raises BadPage where that page can't be decoded."""
        self._check(index)
        return self._render(index)

    def text_layer(self, index: int) -> TextLayer | None:
        """The text that page `index` itself holds, where it stands for all that is to be seen.

        None where it doesn't: the page has to be drawn and read.
        """
        self._check(index)
        return self._text_layer(index)

    def _text_layer(self, index: int) -> TextLayer | None:
        """Only PDFs have one."""
        return None

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"page {index} of a document of {len(self)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
