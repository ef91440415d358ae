"""What a language engine is: plain data in, plain events out. No Django, no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model to be loaded.

    `path` is a local folder or a hub name; "" for an engine that needs none. `dtype`: auto,
    float32, bfloat16, float16. `device`: auto, cpu, cuda, cuda:N, or `map` for several GPUs.
    `quantization`: "", int8, int4. `context_length` in tokens, 0 for the model's own.
    `chat_template` is Jinja, "" for the tokenizer's own. `options` are the engine's.
    """

    name: str
    path: str
    dtype: str = "auto"
    device: str = "auto"
    quantization: str = ""
    context_length: int = 0
    chat_template: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A LoRA adapter: the name that clients call it by, and its folder or hub name."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must follow; `text` is a JSON Schema, a regular expression or a Lark grammar.

    `json_object` needs no text.
    """

    kind: Literal["json_object", "json_schema", "regex", "lark"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request's tokens are chosen; each request has its own.

    `temperature` 0 is greedy. `top_k` 0 and `min_p` 0 are off. `max_tokens` None: as many as the
    context holds. `logprobs`: None for none, else how many alternatives beside the chosen token.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    grammar: Grammar | None = None
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, in one of three forms, and what to make of it.

    `messages` (OpenAI's form, contents flattened to strings) go through the chat template with
    `tools`; `prompt` is text or token ids. `n` answers are made from one reading of the prompt.
    `echo` puts the prompt's text in front of the answer (completions only). `tool_choice` is for
    engines that hand the request on: to all others the grammar says as much.
    """

    id: str
    messages: Sequence[Mapping[str, Any]] | None = None
    prompt: str | Sequence[int] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    adapter: AdapterSource | None = None
    sampling: Sampling = Sampling()
    n: int = 1
    echo: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token with its natural-log probability, and the likeliest alternatives."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, over all `n` answers; `cached` of the prompt's were taken from a shared prefix."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of answer `index`; whole characters only, nothing that a stop may still take."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Answer `index` has ended; `stop` is the text that ended it, if one did."""

    index: int
    reason: FinishReason
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a request that went well, or was cancelled."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a request that did not; in the terms of ApplicationError.

    `retry_after`: seconds after which it may go better, where the engine knows.
    """

    message: str
    code: str = "internal_error"
    param: str | None = None
    status: int = 500
    retry_after: float | None = None


Event = Delta | Finished | Ended | Failed
# Called in the engine's own thread, in order; must be quick and must not raise.
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector of float32 a text, of unit length, and the tokens read in all."""

    vectors: Sequence[Sequence[float]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How busy a model is: answers made at the same time, answers in line, and the tokens whose
    keys and values are kept for the former."""

    running: int = 0
    waiting: int = 0
    cached_tokens: int = 0


class LoadedModel(Protocol):
    """A model in memory. Safe from several threads."""

    source: ModelSource
    # What it really runs on, for people: "cpu bfloat16 2 threads".
    device: str
    context_length: int
    memory_bytes: int
    # Which form tool calls take in its answers (`llm.tools`); "" where its template has none.
    tool_format: str

    @property
    def occupancy(self) -> Occupancy:
        """As it is at this moment, for monitoring."""
        ...

    def submit(self, request: GenerationRequest, listener: Listener) -> None:
        """Queues the request; everything after this, bad prompts too, comes to the listener.

        Raises ApplicationError for what can be known at once: context_length_exceeded,
        invalid_grammar, adapter_unavailable, no_chat_template.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """Ends a request within a token or two; unknown ids are ignored."""
        ...

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """The prompt that the chat template makes."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        ...

    def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        """Raises ApplicationError where the model makes no embeddings, or a text is too long."""
        ...

    def close(self) -> None:
        """Ends what runs with Failed, and gives the memory back."""
        ...


class LanguageEngine(Protocol):
    """Loads models; one a process for each entry of ENGINES["llm"]."""

    # "text-generation" and "embeddings", what its models can do.
    tasks: ClassVar[frozenset[str]]
    device: str

    def load(self, source: ModelSource) -> LoadedModel:
        """Raises EngineUnavailable naming the file or library that is missing or damaged."""
        ...
