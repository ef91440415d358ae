"""What a model's `options` may say to this engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from mlops.exceptions import EngineUnavailable


@dataclass(frozen=True, slots=True)
class Options:
    """`threads` 0: torch's own choice. `max_batch`: answers made at the same time.

    `cache_tokens`: how many tokens' keys and values are kept, of all answers together; 0 for a
    quarter of the memory (four fifths of what a GPU has free), at most `max_batch` full contexts.
    A context is never longer than this.
    `prefill_tokens`: of prompts, in one step; the smaller, the less a long prompt holds up the
    answers under way (0: 256 on a CPU, 2,048 on a GPU). `prompt_lookup`: tokens guessed at a time
    from what the prompt says, which pays where answers quote it; 0 is off.
    `adapter_memory_mb`: what all LoRA adapters together may take. `pooling`: how embeddings are
    made of token vectors, "" for what the folder says, else mean. `download`: hub names that are
    not in the local cache may be fetched.
    """

    threads: int = 0
    max_batch: int = 32
    cache_tokens: int = 0
    prefill_tokens: int = 0
    prompt_lookup: int = 0
    adapter_memory_mb: int = 1024
    pooling: Literal["", "mean", "cls", "last"] = ""
    download: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Options:
        """Raises EngineUnavailable for an option that doesn't exist, or of the wrong type."""
        known = {field.name: field for field in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise EngineUnavailable(
                    f"The transformers engine has no option '{name}'. It has: {', '.join(known)}."
                )
            if type(value) is not type(known[name].default):
                raise EngineUnavailable(
                    f"The transformers engine's option '{name}' must be like "
                    f"{known[name].default!r}, not {value!r}."
                )
        options = cls(**given)
        if options.max_batch < 1 or min(options.cache_tokens, options.prefill_tokens) < 0:
            raise EngineUnavailable("max_batch must be 1 or more, cache and prefill 0 or more.")
        if options.pooling not in ("", "mean", "cls", "last"):
            raise EngineUnavailable(f"No pooling '{options.pooling}': choose mean, cls or last.")
        return options
