"""Formats of pairs: a prompt and its completion, and two answers of which one is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.formats.base import Format, Given, Row, Trouble, Troubles, named, text_of
from finetune.formats.chat import finished_chat
from finetune.formats.messages import Message, check_order, read_messages, read_tools

# What people call the two columns; the first of each is ours.
COLUMNS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("input", "target"),
    ("source", "target"),
)


def _columns(given: Given) -> tuple[str, str] | None:
    return next((pair for pair in COLUMNS if pair[0] in given and pair[1] in given), None)


# -- a prompt and its completion --------------------------------------------------------------


def completion_match(given: Given) -> bool:
    return _columns(given) is not None and "instruction" not in given


def completion_convert(given: Given, troubles: Troubles) -> Row | None:
    """Strings, which are trained on without a template."""
    asked, answered = _columns(given) or COLUMNS[0]
    prompt = text_of(given, asked, troubles)
    completion = text_of(given, answered, troubles)
    if prompt is None or completion is None:
        return None
    if not prompt.strip():
        troubles.append(Trouble("empty_prompt", asked, f"'{asked}' is empty."))
    if not completion.strip():
        troubles.append(Trouble("empty_target", answered, f"'{answered}' is empty."))
    return None if troubles else {"prompt": prompt, "completion": completion}


def turns_match(given: Given) -> bool:
    pair = _columns(given)
    return pair is not None and all(isinstance(given[name], list) for name in pair)


def turns_convert(given: Given, troubles: Troubles) -> Row | None:
    """A prompt and a completion of messages are one conversation."""
    asked, answered = _columns(given) or COLUMNS[0]
    for name in (asked, answered):
        if not isinstance(given.get(name), list):
            wrong = f"'{name}' is {named(given.get(name))}, not messages."
            troubles.append(Trouble("no_messages", name, wrong))
            return None
    return finished_chat(
        [*given[asked], *given[answered]], given.get("tools"), "messages", troubles
    )


# -- preference -------------------------------------------------------------------------------


def preference_match(given: Given) -> bool:
    return "chosen" in given and "rejected" in given


def preference_convert(given: Given, troubles: Troubles) -> Row | None:
    """Strings or messages, with the prompt beside them or at the start of both."""
    prompt, chosen, rejected = (given.get(name) for name in ("prompt", "chosen", "rejected"))
    if prompt is None:
        prompt, chosen, rejected = _parted(chosen, rejected)
        if not prompt:
            wrong = "There is no 'prompt', and the two answers don't begin alike."
            troubles.append(Trouble("missing_field", "prompt", wrong))
            return None
    elif isinstance(prompt, list) and isinstance(chosen, list) and isinstance(rejected, list):
        # Some hold the whole conversation in each of the answers.
        chosen, rejected = (
            one[len(prompt) :] if one[: len(prompt)] == prompt else one
            for one in (chosen, rejected)
        )
    return _preference(prompt, chosen, rejected, given.get("tools"), troubles)


def preferred_match(given: Given) -> bool:
    return "preferred_output" in given and "non_preferred_output" in given


def preferred_convert(given: Given, troubles: Troubles) -> Row | None:
    """OpenAI's form of a pair."""
    asked = given.get("input")
    if not isinstance(asked, dict) or "messages" not in asked:
        troubles.append(Trouble("missing_field", "input", "'input' holds no 'messages'."))
        return None
    chosen, rejected = given.get("preferred_output"), given.get("non_preferred_output")
    return _preference(asked["messages"], chosen, rejected, asked.get("tools"), troubles)


def _parted(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """(prompt, chosen, rejected) of two whole conversations: the prompt is what they share."""
    if isinstance(chosen, list) and isinstance(rejected, list):
        # Each is left with an answer, even where both say the same.
        cut = max(0, min(_shared(chosen, rejected), len(chosen) - 1, len(rejected) - 1))
        return chosen[:cut], chosen[cut:], rejected[cut:]
    if isinstance(chosen, str) and isinstance(rejected, str):
        # Anthropic's HH: turns of "\n\nHuman: " and "\n\nAssistant: " in one string.
        mark = "\n\nAssistant:"
        cut = chosen[: _shared(chosen, rejected)].rfind(mark)
        if cut >= 0:
            end = cut + len(mark)
            return chosen[:cut].removeprefix("\n\nHuman:").strip(), *(
                one[end:].strip() for one in (chosen, rejected)
            )
    return None, chosen, rejected


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How much both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _preference(
    prompt: Any, chosen: Any, rejected: Any, tools: Any, troubles: Troubles
) -> Row | None:
    asked = _side(prompt, "user", "prompt", troubles)
    better = _side(chosen, "assistant", "chosen", troubles)
    worse = _side(rejected, "assistant", "rejected", troubles)
    if troubles:
        return None
    check_order(asked, "prompt", troubles, ends=False)
    if asked and asked[-1]["role"] not in ("user", "tool"):
        wrong = f"The prompt ends with a message of role {asked[-1]['role']}."
        troubles.append(Trouble("role_order", "prompt", wrong))
    for name, side in (("chosen", better), ("rejected", worse)):
        if not troubles:
            whole: Troubles = []
            check_order([*asked, *side], name, whole, ends=True)
            troubles += whole
    if not troubles and better == worse:
        wrong = "'chosen' and 'rejected' are the same."
        troubles.append(Trouble("same_answers", "rejected", wrong))
    row: Row = {"prompt": asked, "chosen": better, "rejected": worse}
    if tools:
        row["tools"] = read_tools(tools, troubles)
    return None if troubles else row


def _side(given: Any, role: str, field: str, troubles: Troubles) -> list[Message]:
    if isinstance(given, str) and not given.lstrip().startswith('[{"role"'):
        return [{"role": role, "content": given}]
    if isinstance(given, dict):
        given = [given]
    return read_messages(given, field, troubles)


COMPLETION = Format(
    "prompt-completion",
    "completion",
    "prompt and completion",
    '{"prompt": "…", "completion": "…"}',
    completion_match,
    completion_convert,
)
TURNS = Format(
    "prompt-completion-messages",
    "chat",
    "prompt and completion of messages",
    '{"prompt": [{"role": "user", …}], "completion": [{"role": "assistant", …}]}',
    turns_match,
    turns_convert,
)
PREFERENCE = Format(
    "preference",
    "preference",
    "preference pairs",
    '{"prompt": "…", "chosen": "…", "rejected": "…"}',
    preference_match,
    preference_convert,
)
PREFERRED = Format(
    "preference-openai",
    "preference",
    "preference pairs (OpenAI)",
    '{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
    preferred_match,
    preferred_convert,
)
