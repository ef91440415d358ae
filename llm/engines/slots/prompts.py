"""From a request to token ids: chat template, tokenizer, the context's length."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from llm.engines.base import GenerationRequest
from mlops.exceptions import ApplicationError


class Prompts:
    """A tokenizer and its chat template. Safe from several threads."""

    def __init__(self, tokenizer: Any, *, template: str, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        # Tokenizers are not: they keep padding and truncation in themselves.
        self._lock = threading.Lock()
        own = tokenizer.chat_template or ""
        if isinstance(own, dict):
            own = own.get("default", "")
        self.template = template or own

    def read(self, request: GenerationRequest) -> tuple[list[int], str]:
        """(tokens, text) of a request's prompt. Raises ApplicationError."""
        if request.messages is not None:
            text = self.render(request.messages, request.tools, request.template_options)
            tokens, of_what = self.tokens(text, special=False), "messages"
        elif isinstance(request.prompt, str):
            text, of_what = request.prompt, "prompt"
            tokens = self.tokens(text, special=True)
        else:
            tokens, of_what = list(request.prompt or ()), "prompt"
            text = self._text(tokens) if request.echo else ""
        if not tokens:
            raise ApplicationError(
                "The prompt is empty: give at least one token.", code="empty_prompt", param=of_what
            )
        self._check_length(len(tokens), request.sampling.max_tokens, of_what)
        return tokens, text

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> str:
        if not self.template:
            raise ApplicationError(
                "The model has no chat template: give it one in its settings, or use "
                "/v1/completions.",
                code="no_chat_template",
                param="messages",
            )
        given = {"add_generation_prompt": True, **(options or {})}
        try:
            return self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self.template,
                tokenize=False,
                **given,
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise ApplicationError(
                f"The model's chat template refuses these messages: {error}",
                code="invalid_messages",
                param="messages",
            ) from error

    def tokens(self, text: str, *, special: bool) -> list[int]:
        with self._lock:
            return self._tokenizer(text, add_special_tokens=special)["input_ids"]

    def _text(self, tokens: Sequence[int]) -> str:
        with self._lock:
            return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def _check_length(self, prompt: int, answer: int | None, of_what: str) -> None:
        limit = self._context_length
        if prompt + (answer if answer is not None else 1) <= limit:
            return
        if prompt >= limit or answer is None:
            asked = f"your {of_what} resulted in {prompt} tokens"
        else:
            asked = (
                f"you requested {prompt + answer} tokens ({prompt} in the {of_what}, {answer} in "
                "the completion)"
            )
        raise ApplicationError(
            f"This model's maximum context length is {limit} tokens. However, {asked}. Please "
            f"reduce the length of the {of_what}{' or completion' if prompt < limit else ''}.",
            code="context_length_exceeded",
            param=of_what,
        )
