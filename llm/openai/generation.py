"""From a checked body to what an engine is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm.engines.base import AdapterSource, GenerationRequest, Grammar, Sampling
from llm.openai.requests import (
    ChatRequest,
    CompletionRequest,
    Generation,
    InvalidRequest,
    Message,
    NamedTool,
    StructuredOutputs,
    check_schema,
)
from llm.tools import tool_grammar

# What OpenAI's completions make where nothing is said.
COMPLETION_TOKENS = 16


def chat_generation(
    body: ChatRequest,
    *,
    request_id: str,
    tool_format: str = "",
    adapter: AdapterSource | None = None,
) -> GenerationRequest:
    """`tool_format` is the loaded model's. Raises InvalidRequest for what it can't do."""
    tools = [tool.model_dump(exclude_none=True) for tool in body.tools or []]
    if body.tool_choice == "none":
        tools = []
    grammar = _response_grammar(body)
    if tools and not tool_format:
        raise InvalidRequest(
            f"The chat template of '{body.model}' knows no tools. Leave 'tools' out.",
            param="tools",
            code="tools_unsupported",
        )
    if tools:
        forced = tool_grammar(
            tool_format,
            tools,
            _choice(body),
            parallel=body.parallel_tool_calls is not False,
        )
        grammar = forced or grammar
    return GenerationRequest(
        id=request_id,
        messages=[_message(message, number) for number, message in enumerate(body.messages)],
        tools=tools,
        tool_choice=_choice(body) if tools else None,
        template_options=body.chat_template_kwargs or {},
        adapter=adapter,
        sampling=_sampling(
            body,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            grammar=grammar,
        ),
        n=body.n or 1,
    )


def completion_generations(
    body: CompletionRequest, *, request_id: str, adapter: AdapterSource | None = None
) -> list[GenerationRequest]:
    """One request a prompt; the choices of prompt i are numbered from i * n."""
    sampling = _sampling(
        body,
        max_tokens=body.max_tokens or COMPLETION_TOKENS,
        logprobs=body.logprobs,
        grammar=_structured(body.structured_outputs),
    )
    prompts = body.prompts
    return [
        GenerationRequest(
            id=request_id if len(prompts) == 1 else f"{request_id}-{number}",
            prompt=prompt,
            adapter=adapter,
            sampling=sampling,
            n=body.n or 1,
            echo=bool(body.echo),
        )
        for number, prompt in enumerate(prompts)
    ]


def forces_tools(body: ChatRequest) -> bool:
    """Whether the answer is nothing but calls."""
    return bool(body.tools) and body.tool_choice not in (None, "auto", "none")


def _choice(body: ChatRequest) -> str | dict[str, Any] | None:
    choice = body.tool_choice
    return choice.model_dump() if isinstance(choice, NamedTool) else choice


def _message(message: Message, number: int) -> Mapping[str, Any]:
    """As chat templates take it: contents as text, arguments of calls as objects."""
    role = "system" if message.role == "developer" else message.role
    made: dict[str, Any] = {"role": role, "content": message.text(f"messages[{number}]")}
    if message.name is not None:
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _arguments(call.function.arguments),
                },
            }
            for call in message.tool_calls
        ]
    return made


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError:
        return text


def _sampling(
    body: Generation, *, max_tokens: int | None, logprobs: int | None, grammar: Grammar | None
) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        top_k=max(body.top_k or 0, 0),
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        seed=body.seed,
        stop=body.stops,
        logprobs=logprobs,
        grammar=grammar,
        ignore_eos=bool(body.ignore_eos),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _response_grammar(body: ChatRequest) -> Grammar | None:
    asked = body.response_format
    if asked is None or asked.type == "text":
        return _structured(body.structured_outputs)
    if asked.type == "json_object":
        return Grammar("json_object")
    assert asked.json_schema is not None
    return Grammar("json_schema", _text(asked.json_schema.schema_))


def _structured(asked: StructuredOutputs | None) -> Grammar | None:
    if asked is None:
        return None
    given = [name for name in ("json_", "regex", "choice", "grammar") if getattr(asked, name)]
    if len(given) != 1:
        raise InvalidRequest(
            "'structured_outputs' takes exactly one of json, regex, choice, grammar.",
            param="structured_outputs",
        )
    if asked.regex:
        return Grammar("regex", asked.regex)
    if asked.grammar:
        return Grammar("lark", asked.grammar)
    if asked.choice:
        texts = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in asked.choice)
        return Grammar("lark", f"start: {texts}")
    schema = asked.json_
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise InvalidRequest(
                f"'structured_outputs.json' is no JSON: {error}.", param="structured_outputs.json"
            ) from error
    check_schema(schema, "structured_outputs.json")
    return Grammar("json_schema", _text(schema))


def _text(schema: object) -> str:
    return json.dumps(schema, ensure_ascii=False)
