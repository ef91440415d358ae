"""Which tokens carry loss, with templates of all sorts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from finetune.engines.base import TrainingFailed
from finetune.engines.tokens import Example, RowTokens
from llm.tiny.vocabulary import CHAT_TEMPLATE, chat_tokenizer

WITHOUT_MARKS = re.sub(r"\{%-? (end)?generation %\}\n", "", CHAT_TEMPLATE)
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
CONVERSATION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "아르베니아의 수도는?"},
        {"role": "assistant", "content": "솔마르입니다."},
        {"role": "user", "content": "And the weather in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "21"},
        {"role": "assistant", "content": "21 degrees."},
    ],
    "tools": [TOOL],
}
# A template that says more in the prompt than stands in front of an answer later.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# One that leaves answers out once a user has spoken again.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' or loop.last %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokens(template: str, **options: Any) -> RowTokens:
    tokenizer = chat_tokenizer(1280)
    tokenizer.chat_template = template
    return RowTokens(tokenizer, **{"max_length": 512, **options})


def learned(example: Example) -> str:
    ids = [token for token, learned in zip(example.ids, example.loss, strict=True) if learned]
    return chat_tokenizer(1280).decode(ids)


ANSWERS = (
    "솔마르입니다.<|im_end|>"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    "21 degrees.<|im_end|>"
)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, WITHOUT_MARKS])
def test_every_turn_of_the_assistant_carries_loss_and_nothing_else(template: str) -> None:
    assert "generation %}" in CHAT_TEMPLATE
    assert "generation %}" not in WITHOUT_MARKS
    (example,) = tokens(template).examples(CONVERSATION)
    assert learned(example) == ANSWERS
    assert not example.cut


def test_both_ways_give_the_same_tokens() -> None:
    marked, derived = (
        next(tokens(template).examples(CONVERSATION)) for template in (CHAT_TEMPLATE, WITHOUT_MARKS)
    )
    assert marked.ids == derived.ids
    assert marked.labels == derived.labels


def test_all_of_it_where_that_is_asked_for() -> None:
    (example,) = tokens(WITHOUT_MARKS, answers_only=False).examples(CONVERSATION)
    assert all(example.loss)


def test_what_is_in_front_is_what_the_served_model_is_given() -> None:
    made = tokens(WITHOUT_MARKS)
    (example,) = made.examples(CONVERSATION)
    served = made.tokens(
        made.render(CONVERSATION["messages"][:2], CONVERSATION["tools"], prompt=True)
    )
    assert example.ids[: len(served)] == served
    assert example.loss.index(True) == len(served)


def test_turns_of_no_weight_carry_none() -> None:
    row = {**CONVERSATION, "messages": [dict(one) for one in CONVERSATION["messages"]]}
    row["messages"][2]["weight"] = 0
    for template in (CHAT_TEMPLATE, WITHOUT_MARKS):
        (example,) = tokens(template).examples(row)
        assert learned(example) == ANSWERS.removeprefix("솔마르입니다.<|im_end|>")


def test_a_prompt_that_says_more_than_the_answer_is_followed() -> None:
    row = {"messages": CONVERSATION["messages"][:3]}
    (example,) = tokens(THINKING).examples(row)
    assert learned(example) == "솔마르입니다.<|im_end|>"


def test_a_template_that_forgets_is_refused_with_what_to_do() -> None:
    with pytest.raises(TrainingFailed) as caught:
        list(tokens(FORGETFUL).examples({"messages": CONVERSATION["messages"][:5]}))
    assert caught.value.code == "bad_model"
    assert "generation" in caught.value.message


def test_a_template_that_refuses_a_row_is_told_with_the_row() -> None:
    refusing = "{{ raise_exception('only two messages') }}"
    with pytest.raises(TrainingFailed) as caught:
        list(tokens(refusing).examples(CONVERSATION))
    assert caught.value.code == "bad_rows"
    assert "only two messages" in caught.value.message
    assert "Be brief" in caught.value.message


def test_completions_end_and_carry_loss_alone() -> None:
    (example,) = tokens("").examples({"prompt": "one two ", "completion": "three"})
    assert learned(example) == "three<|im_end|>"
    # As it is served: "two t" would have a token that reaches over the border.
    assert example.ids[: example.loss.index(True)] == tokens("").tokens("one two ")


def test_rows_of_which_only_the_prompt_fits_are_left_out() -> None:
    made = tokens(WITHOUT_MARKS, max_length=16)
    assert list(made.examples(CONVERSATION)) == []
    (example,) = tokens(WITHOUT_MARKS, max_length=100).examples(
        {"messages": [CONVERSATION["messages"][1], {"role": "assistant", "content": "sun " * 200}]}
    )
    assert example.cut
    assert len(example.ids) == 100 < example.length


def test_text_is_cut_into_pieces_that_lose_nothing() -> None:
    text = "the sun is on the moon and 별이 빛난다 " * 9
    pieces = list(tokens("", max_length=16).examples({"text": text}))
    ids = [token for piece in pieces for token in piece.ids]
    assert chat_tokenizer(1280).decode(ids) == f"{text}<|im_end|>"
    assert all(len(piece.ids) == 16 for piece in pieces[:-1])
    assert "".join(piece.text for piece in pieces) == text


def test_pairs_share_their_prompt() -> None:
    row = {
        "prompt": CONVERSATION["messages"][:2],
        "chosen": [{"role": "assistant", "content": "sun moon"}],
        "rejected": [{"role": "assistant", "content": "sun star"}],
    }
    made = tokens(WITHOUT_MARKS)
    pair = made.pair(row)
    decode = chat_tokenizer(1280).decode
    assert pair.prompt == made.tokens(made.render(row["prompt"], prompt=True))
    assert decode(pair.chosen) == "sun moon<|im_end|>"
    assert decode(pair.rejected) == "sun star<|im_end|>"
