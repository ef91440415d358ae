"""Formats that become conversations: OpenAI's messages, ShareGPT, Alpaca."""

from __future__ import annotations

import json
from typing import Any

from finetune.formats.base import Format, Given, Row, Trouble, Troubles, named, text_of
from finetune.formats.messages import check_order, read_messages, read_tools

SPEAKERS = {
    **dict.fromkeys(("human", "user", "prompter", "instruction"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model", "bing", "output"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response", "function-response"), "tool"),
    **dict.fromkeys(("function_call", "function-call"), "call"),
}


def finished_chat(messages: Any, tools: Any, field: str, troubles: Troubles) -> Row | None:
    """Checks the messages; the row, or None where there is trouble."""
    before = len(troubles)
    read = read_messages(messages, field, troubles)
    if len(troubles) == before:
        check_order(read, field, troubles, ends=True)
    row: Row = {"messages": read}
    if tools:
        row["tools"] = read_tools(tools, troubles)
    return row if len(troubles) == before else None


# -- OpenAI's ---------------------------------------------------------------------------------


def messages_match(given: Given) -> bool:
    messages = given.get("messages")
    return isinstance(messages, list | str)


def messages_convert(given: Given, troubles: Troubles) -> Row | None:
    if "messages" not in given:
        troubles.append(Trouble("missing_field", "messages", "The row has no 'messages'."))
        return None
    return finished_chat(given["messages"], given.get("tools"), "messages", troubles)


# -- ShareGPT ---------------------------------------------------------------------------------


def sharegpt_match(given: Given) -> bool:
    turns = given.get("conversations", given.get("conversation"))
    if isinstance(turns, str):
        return turns.lstrip().startswith("[") and '"from"' in turns
    return isinstance(turns, list) and (
        not turns or (isinstance(turns[0], dict) and {"from", "value"} & turns[0].keys() != set())
    )


def sharegpt_convert(given: Given, troubles: Troubles) -> Row | None:
    field = "conversation" if "conversation" in given else "conversations"
    turns = given.get(field)
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except ValueError:
            turns = None
    if not isinstance(turns, list) or not turns:
        what = "an empty list" if turns == [] else named(turns)
        troubles.append(Trouble("no_messages", field, f"'{field}' is {what}, not turns."))
        return None
    messages: list[dict[str, Any]] = []
    if isinstance(given.get("system"), str) and given["system"].strip():
        messages.append({"role": "system", "content": given["system"]})
    for n, turn in enumerate(turns):
        place = f"{field}[{n}]"
        speaker = turn.get("from") if isinstance(turn, dict) else None
        role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
        if role is None:
            troubles.append(Trouble("unknown_role", f"{place}.from", f"The turn is {speaker!r}'s."))
            return None
        value = turn.get("value")
        if role == "call":
            messages.append({"role": "assistant", "tool_calls": _call(value)})
        else:
            messages.append({"role": role, "content": value})
    return finished_chat(messages, given.get("tools"), field, troubles)


def _call(value: Any) -> Any:
    """A turn that calls a function, or several, as OpenAI's tool_calls."""
    try:
        called = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        called = None
    called = called if isinstance(called, list) else [called]
    return [{"function": one} for one in called]


# -- Alpaca -----------------------------------------------------------------------------------


def alpaca_match(given: Given) -> bool:
    return "instruction" in given and bool({"output", "response"} & given.keys())


def alpaca_convert(given: Given, troubles: Troubles) -> Row | None:
    instruction = text_of(given, "instruction", troubles)
    answer = "response" if "output" not in given and "response" in given else "output"
    output = text_of(given, answer, troubles)
    extra = given.get("input")
    if extra is not None and not isinstance(extra, str):
        extra = text_of(given, "input", troubles)
    if instruction is None or output is None or troubles:
        return None
    asked = f"{instruction}\n\n{extra}" if extra and extra.strip() else instruction
    if not asked.strip():
        troubles.append(Trouble("empty_prompt", "instruction", "The instruction is empty."))
    if not output.strip():
        troubles.append(Trouble("empty_target", answer, f"'{answer}' is empty."))
    if troubles:
        return None
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": output}]
    past = given.get("history")
    if isinstance(past, list):
        turns = [pair for pair in past if isinstance(pair, list | tuple) and len(pair) == 2]
        messages[:0] = [
            {"role": role, "content": text}
            for pair in turns
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    if isinstance(given.get("system"), str) and given["system"].strip():
        messages.insert(0, {"role": "system", "content": given["system"]})
    return finished_chat(messages, None, "messages", troubles)


MESSAGES = Format(
    "messages",
    "chat",
    "messages (OpenAI)",
    '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
    messages_match,
    messages_convert,
)
SHAREGPT = Format(
    "sharegpt",
    "chat",
    "ShareGPT",
    '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}',
    sharegpt_match,
    sharegpt_convert,
)
ALPACA = Format(
    "alpaca",
    "chat",
    "Alpaca",
    '{"instruction": "…", "input": "…", "output": "…"}',
    alpaca_match,
    alpaca_convert,
)
