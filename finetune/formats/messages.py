"""Conversations: OpenAI's messages, checked and brought into one form."""

from __future__ import annotations

import json
from typing import Any

from finetune.formats.base import Trouble, Troubles, named

Message = dict[str, Any]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Kept as they are, where they are there.
KEPT = ("name", "tool_call_id", "reasoning_content", "weight")


def read_messages(given: Any, field: str, troubles: Troubles) -> list[Message]:
    """The messages in canonical form: role, content (a string) and, of an assistant, tool_calls.

    Arguments of calls become objects, as chat templates want them. Order is not looked at.
    """
    if isinstance(given, str) and given.lstrip().startswith("["):
        # Out of a CSV, which has no lists.
        try:
            given = json.loads(given)
        except ValueError:
            troubles.append(Trouble("no_messages", field, f"'{field}' is no valid JSON."))
            return []
    if not isinstance(given, list) or not given:
        what = "an empty list" if given == [] else named(given)
        troubles.append(Trouble("no_messages", field, f"'{field}' is {what}, not messages."))
        return []
    return [_message(one, f"{field}[{n}]", troubles) for n, one in enumerate(given)]


def _message(given: Any, field: str, troubles: Troubles) -> Message:
    if not isinstance(given, dict):
        troubles.append(Trouble("not_text", field, f"The message is {named(given)}."))
        return {"role": "user", "content": ""}
    told = given.get("role")
    role = ROLES.get(told) if isinstance(told, str) else None
    if role is None:
        troubles.append(Trouble("unknown_role", f"{field}.role", f"The role is {told!r}."))
        role = "user"
    calls = given.get("tool_calls")
    if not calls and isinstance(given.get("function_call"), dict):
        calls = [{"function": given["function_call"]}]
    message: Message = {
        "role": role,
        "content": _content(given.get("content"), bool(calls), f"{field}.content", troubles),
    }
    if calls:
        message["tool_calls"] = _calls(calls, role, f"{field}.tool_calls", troubles)
    for name in KEPT:
        if given.get(name) is not None:
            message[name] = given[name]
    return message


def _content(content: Any, calls: bool, field: str, troubles: Troubles) -> str:
    if isinstance(content, str):
        return content
    if content is None and calls:
        return ""
    if isinstance(content, list):
        texts = [
            part["text"]
            for part in content
            if isinstance(part, dict)
            and part.get("type") in ("text", "input_text", "output_text")
            and isinstance(part.get("text"), str)
        ]
        if len(texts) == len(content):
            return "".join(texts)
        message = "The content holds parts that are no text."
    else:
        message = f"The content is {named(content)}, not a string."
    troubles.append(Trouble("not_text", field, message))
    return ""


def _calls(calls: Any, role: str, field: str, troubles: Troubles) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        troubles.append(Trouble("tool_call", field, f"tool_calls is {named(calls)}, not a list."))
        return []
    if role != "assistant":
        troubles.append(Trouble("tool_call", field, f"A message of role {role} calls tools."))
    read = []
    for n, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            message = "The call does not name its function."
            troubles.append(Trouble("tool_call", f"{field}[{n}]", message))
            continue
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError:
                arguments = None
        if not isinstance(arguments, dict):
            place = f"{field}[{n}].function.arguments"
            message = f"The arguments of {name} are no JSON object."
            troubles.append(Trouble("tool_call", place, message))
            continue
        one: dict[str, Any] = {"type": "function"}
        if isinstance(call.get("id"), str):
            one = {"id": call["id"], **one}
        read.append({**one, "function": {"name": name, "arguments": arguments}})
    return read


def check_order(messages: list[Message], field: str, troubles: Troubles, *, ends: bool) -> None:
    """Who speaks after whom; with `ends`, that the last message is an assistant's with content."""
    before, open_calls = "", set()
    for n, message in enumerate(messages):
        role, place = message["role"], f"{field}[{n}]"
        if role == "system":
            if n:
                wrong = f"The system message is number {n + 1}, not the first."
                troubles.append(Trouble("role_order", place, wrong))
                continue
        elif role == "tool":
            if before not in ("tool", "calls"):
                wrong = "A tool answers, but the message before it calls none."
                troubles.append(Trouble("tool_call", place, wrong))
            elif open_calls and message.get("tool_call_id", "") not in ("", *open_calls):
                wrong = f"No call before it has the id {message['tool_call_id']!r}."
                troubles.append(Trouble("tool_call", f"{place}.tool_call_id", wrong))
        elif before in ("", "system") and role == "assistant":
            wrong = "The assistant speaks first: there is nothing that it answers."
            troubles.append(Trouble("role_order", place, wrong))
        elif before == "calls" and role == "user":
            wrong = "The calls before it are answered by no message of role tool."
            troubles.append(Trouble("tool_call", place, wrong))
        if role == "user" and not message["content"].strip():
            wrong = "The user's message is empty."
            troubles.append(Trouble("empty_prompt", f"{place}.content", wrong))
        calls = message.get("tool_calls")
        if calls:
            open_calls = {call["id"] for call in calls if "id" in call}
        before = "calls" if calls else role
    if ends and messages:
        _check_end(messages, field, troubles)


def _check_end(messages: list[Message], field: str, troubles: Troubles) -> None:
    last, place = messages[-1], f"{field}[{len(messages) - 1}]"
    if last["role"] != "assistant":
        wrong = f"The last message is of role {last['role']}, not an assistant's."
        troubles.append(Trouble("ends_wrong", place, wrong))
    elif not last["content"].strip() and not last.get("tool_calls"):
        wrong = "The assistant's last message is empty."
        troubles.append(Trouble("empty_target", f"{place}.content", wrong))
    spoken = [message for message in messages if message["role"] == "assistant"]
    if spoken and all(message.get("weight") == 0 for message in spoken):
        wrong = "Every assistant message has weight 0: there is nothing to learn."
        troubles.append(Trouble("empty_target", field, wrong))


def read_tools(given: Any, troubles: Troubles) -> list[dict[str, Any]]:
    """The functions on offer, as OpenAI's `tools`; out of a string of JSON, too."""
    tools = given
    if isinstance(tools, str):
        try:
            tools = json.loads(tools or "[]")
        except ValueError:
            tools = None
    if isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools):
        return tools
    troubles.append(Trouble("tool_call", "tools", "'tools' is no list of tools."))
    return []
