"""Language models of the transformers library, on our own batching: CPU, one GPU, or several."""

from __future__ import annotations

from typing import Any, ClassVar

from llm.engines.base import LoadedModel, ModelSource


class TransformersEngine:
    """Loads a model's folder; options of the engine are those of its models, where they say none.

    Models of Llama's kind run on our own forward pass over a cache of slots, once it has been
    compared with the library's; all others on the library's.
    """

    tasks: ClassVar[frozenset[str]] = frozenset({"text-generation", "embeddings"})

    def __init__(self, *, device: str = "auto", **options: Any) -> None:
        """`options`: see `llm.engines.slots.options.Options`."""
        self.device = device
        self._options = options

    def load(self, source: ModelSource) -> LoadedModel:
        # Here, because it imports torch.
        from llm.engines.slots.assembly import assemble

        return assemble(source, {**self._options, **source.options}, device=self.device)
