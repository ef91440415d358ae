"""Tiny models that are real: made on the spot for tests and the demo, without any download."""

from llm.tiny.embedding import embedding_model
from llm.tiny.language import lora_adapter, random_model, trained_model
from llm.tiny.lessons import Lesson, lessons

__all__ = [
    "Lesson",
    "embedding_model",
    "lessons",
    "lora_adapter",
    "random_model",
    "trained_model",
]
