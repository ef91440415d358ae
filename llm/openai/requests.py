"""Bodies of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`, checked to the field.

Unknown fields are let through, as OpenAI's servers grow them faster than anybody else; those that
would change the answer and are not offered here are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm import json_schema
from mlops.exceptions import ApplicationError

Tokens = list[Annotated[int, Field(ge=0)]]
Choice = Literal["none", "auto", "required"]
CODES = {"missing": "missing_required_parameter"}


class InvalidRequest(ApplicationError):
    """A body that can't be answered; names the field."""

    def __init__(self, message: str, *, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message, code=code, param=param, status=400)


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())

    # Fields that would change the answer, by name; and the values that ask for nothing.
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @classmethod
    def parse(cls, data: Any) -> Self:
        """The body in order. Raises InvalidRequest naming the first field at fault."""
        if not isinstance(data, Mapping):
            raise InvalidRequest("Send a JSON object as the body.", param=None, code="invalid_type")
        for name, nothing in cls.REFUSED.items():
            if data.get(name) is not None and data[name] not in nothing:
                raise InvalidRequest(
                    f"'{name}' is not supported here. Leave it out.",
                    param=name,
                    code="unsupported_parameter",
                )
        try:
            body = cls.model_validate(data)
        except ValidationError as error:
            raise _invalid(error) from error
        body.check()
        return body

    def check(self) -> None:
        """What concerns several fields. Raises InvalidRequest."""


def _invalid(error: ValidationError) -> InvalidRequest:
    """Of several complaints (a union has one for each member) the deepest says most."""
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    param = ""
    for part in first["loc"]:
        if isinstance(part, int):
            param += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int", "list", "dict"):
            param += f".{part}" if param else part
    if first["type"] == "missing":
        message = f"Missing required parameter: '{param}'."
    else:
        message = f"Invalid value for '{param}': {first['msg']}."
    kind = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return InvalidRequest(message, param=param, code=CODES.get(first["type"], kind))


# -- messages ---------------------------------------------------------------------------------


class FunctionCall(Body):
    name: str
    arguments: str


class ToolCall(Body):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    def text(self, place: str) -> str:
        """The content as one string. Raises InvalidRequest for a part that isn't text."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        texts = []
        for number, part in enumerate(self.content):
            kind = part.get("type")
            text = part.get(kind) if kind in ("text", "refusal") else None
            if not isinstance(text, str):
                raise InvalidRequest(
                    f"A part of type '{kind}' can't be read by this model: send text. "
                    "Documents and images go through /api/v1/ocr/ first.",
                    param=f"{place}.content[{number}].type",
                    code="unsupported_content",
                )
            texts.append(text)
        return "\n".join(texts)


# -- what an answer must look like ------------------------------------------------------------


class JsonSchema(Body):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Body):
    """vLLM's own: exactly one of these."""

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1)] | None = None
    grammar: str | None = None


class StreamOptions(Body):
    include_usage: bool = False


class Function(Body):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


# -- bodies -----------------------------------------------------------------------------------


class Generation(Body):
    """What chat and completions share."""

    model: Annotated[str, Field(min_length=1)]
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=64)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    user: str | None = None
    # vLLM's.
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    ignore_eos: bool | None = None
    structured_outputs: StructuredOutputs | None = None

    def check(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "'stream_options' is for streams: set 'stream' to true.", param="stream_options"
            )
        for token in self.logit_bias or {}:
            if not token.isdecimal():
                raise InvalidRequest(
                    f"'logit_bias' is keyed by token ids; '{token}' is none.", param="logit_bias"
                )
        if any(not stop for stop in self.stops):
            raise InvalidRequest("An empty 'stop' would end every answer.", param="stop")

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Generation):
    REFUSED = {
        "audio": (),
        "functions": ([],),
        "function_call": ("none",),
        "modalities": (["text"], []),
        "web_search_options": (),
    }

    messages: Annotated[list[Message], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        super().check()
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
        asked = self.response_format
        if asked is not None and asked.type == "json_schema":
            schema = asked.json_schema
            if schema is None or schema.schema_ is None:
                raise InvalidRequest(
                    "Missing required parameter: 'response_format.json_schema.schema'.",
                    param="response_format.json_schema.schema",
                    code="missing_required_parameter",
                )
            check_schema(schema.schema_, "response_format.json_schema.schema")
        self._check_tools()
        for number, message in enumerate(self.messages):
            place = f"messages[{number}]"
            if message.role == "tool" and not message.tool_call_id:
                raise InvalidRequest(
                    f"Missing required parameter: '{place}.tool_call_id'.",
                    param=f"{place}.tool_call_id",
                    code="missing_required_parameter",
                )
            if message.content is None and message.role != "assistant":
                raise InvalidRequest(
                    f"Missing required parameter: '{place}.content'.",
                    param=f"{place}.content",
                    code="missing_required_parameter",
                )
            message.text(place)

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.tools or []]
        for number, tool in enumerate(self.tools or []):
            if tool.function.parameters is not None:
                place = f"tools[{number}].function.parameters"
                check_schema(tool.function.parameters, place, kept=False)
        if self.tool_choice not in (None, "none", "auto") and not names:
            raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
        if isinstance(self.tool_choice, NamedTool):
            name = self.tool_choice.function.name
            if name not in names:
                raise InvalidRequest(
                    f"'tool_choice' names '{name}', which is not among 'tools'.",
                    param="tool_choice",
                )


class CompletionRequest(Generation):
    REFUSED = {"best_of": (1,), "suffix": ("",)}

    prompt: str | Tokens | list[str] | list[Tokens]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None

    def check(self) -> None:
        super().check()
        if not self.prompts:
            raise InvalidRequest("'prompt' is empty: send a text.", param="prompt")
        if len(self.prompts) > 64:
            raise InvalidRequest("At most 64 prompts in one request.", param="prompt")

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


class EmbeddingRequest(Body):
    model: Annotated[str, Field(min_length=1)]
    input: str | Tokens | list[str] | list[Tokens]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None

    def check(self) -> None:
        texts = self.texts
        if not texts or any(not text for text in texts):
            raise InvalidRequest("'input' holds an empty text.", param="input")
        if len(texts) > 2048:
            raise InvalidRequest("At most 2048 texts in one request.", param="input")

    @property
    def texts(self) -> list[str | list[int]]:
        if isinstance(self.input, str):
            return [self.input]
        if self.input and isinstance(self.input[0], int):
            return [self.input]  # type: ignore[list-item]
        return list(self.input)  # type: ignore[arg-type]


def check_schema(schema: Mapping[str, Any], param: str, *, kept: bool = True) -> None:
    """Raises ApplicationError for what is no JSON Schema, or (`kept`) can't be followed."""
    json_schema.check_schema(schema, param=param, kept=kept)
