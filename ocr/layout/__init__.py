"""Boxes on a page -> blocks in the order in which a person would read them, and the page's text."""

from __future__ import annotations

from ocr.layout.blocks import Block, Layout
from ocr.layout.page import lay_out, page_text
from ocr.layout.rows import reading_order, rows_text

__all__ = ["Block", "Layout", "lay_out", "page_text", "reading_order", "rows_text"]
