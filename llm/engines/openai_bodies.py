"""Requests as bodies of the OpenAI API, with the fields that vLLM and others have beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm.engines.base import GenerationRequest, Sampling

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def generation_body(request: GenerationRequest, model: str) -> tuple[str, dict[str, Any]]:
    """The path, and what is posted to it: always a stream, whose last chunk counts the tokens."""
    sampling = request.sampling
    body = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": request.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        **_unusual(sampling),
        **_constraint(request),
    }
    if request.messages is None:
        body |= {"prompt": request.prompt, "max_tokens": sampling.max_tokens}
        body |= {"echo": True} if request.echo else {}
        body |= {} if sampling.logprobs is None else {"logprobs": sampling.logprobs}
        return COMPLETIONS, body
    body["messages"] = [_message(message) for message in request.messages]
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if request.tools:
        body["tools"] = list(request.tools)
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.template_options:
        body["chat_template_kwargs"] = dict(request.template_options)
    if sampling.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    return CHAT, body


def _unusual(sampling: Sampling) -> dict[str, Any]:
    """What differs from the default: servers that don't know a field refuse it, so none is sent
    without need."""
    usual = Sampling()
    names = (
        *("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("seed", "ignore_eos"),
    )
    body = {
        name: getattr(sampling, name)
        for name in names
        if getattr(sampling, name) != getattr(usual, name)
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return body


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of calls are objects in templates, and text in the API."""
    if not message.get("tool_calls"):
        return dict(message)
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        if not isinstance(arguments, str):
            call = {**call, "function": {**call["function"], "arguments": json.dumps(arguments)}}
        calls.append(call)
    return {**message, "tool_calls": calls}


def _constraint(request: GenerationRequest) -> dict[str, Any]:
    """The standard's field where it has one, else vLLM's."""
    grammar = request.sampling.grammar
    if grammar is None or request.tool_choice not in (None, "auto"):
        # A forced call's grammar is of the form that this platform reads calls in.
        return {}
    match grammar.kind:
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = {"name": "answer", "schema": json.loads(grammar.text), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "regex":
            return {"structured_outputs": {"regex": grammar.text}}
        case "lark":
            return {"structured_outputs": {"grammar": grammar.text}}
