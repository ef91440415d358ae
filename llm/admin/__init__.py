"""The console's pages of language models: what may be called, what was asked, what it took."""

from llm.admin import (
    aliases,
    batches,
    extraction_batches,
    extraction_templates,
    extractions,
    files,
    language_models,
    requests,
    search,
    text_fixes,
    usage,
)

__all__ = [
    "aliases",
    "batches",
    "extraction_batches",
    "extraction_templates",
    "extractions",
    "files",
    "language_models",
    "requests",
    "search",
    "text_fixes",
    "usage",
]
