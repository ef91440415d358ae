"""Answers that follow their grammar, whatever the model would rather say."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llm.engines.base import GenerationRequest, Grammar, Sampling
from llm.engines.grammar import GrammarCompiler, Matcher, fill_masks
from llm.tools import HERMES, LLAMA3, MISTRAL, tool_grammar
from mlops.exceptions import ApplicationError
from ocr.engines.torch_library import import_torch
from tests.llm.engine_runs import load, start
from tests.llm.schemas import UNKEPT, Schemas, complaint

torch = import_torch()

RECORD = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "합계": {"type": "integer", "minimum": 3}},
    "required": ["a", "합계"],
    "additionalProperties": False,
}
NESTED = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}


@pytest.fixture(scope="module")
def tokenizer(random_model: Path) -> Any:
    return importlib.import_module("transformers").AutoTokenizer.from_pretrained(random_model)


@pytest.fixture(scope="module")
def compiler(tokenizer: Any) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, len(tokenizer))


def schema_grammar(schema: object) -> Grammar:
    return Grammar("json_schema", json.dumps(schema))


def follows(compiler: GrammarCompiler, tokenizer: Any, grammar: Grammar, text: str) -> bool:
    """Whether all of the text is allowed, and the answer may end behind it."""
    matcher = compiler.compile(grammar)
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        row = torch.zeros(compiler.vocab_size)
        matcher.mask(row)
        if row[token] != 0:
            return False
        matcher.accept(token)
    return matcher.complete


def answered(
    compiler: GrammarCompiler,
    tokenizer: Any,
    grammar: Grammar,
    *,
    logits: Callable[[], Any],
    budget: int | None,
    most: int = 400,
) -> tuple[str, bool]:
    """The greedy answer of a model with these logits, and whether it came to its end."""
    matcher = compiler.compile(grammar)
    tokens: list[int] = []
    while not matcher.ended and len(tokens) < (most if budget is None else budget):
        row = logits()
        matcher.mask(row, None if budget is None else budget - len(tokens))
        token = int(row.argmax())
        assert row[token] > float("-inf"), "nothing may follow"
        matcher.accept(token)
        if token not in compiler.ends:
            tokens.append(token)
    return tokenizer.decode(tokens), matcher.complete or matcher.ended


def wishing(tokenizer: Any, text: str) -> Callable[[], Any]:
    """A model that wants one token again and again."""
    (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]

    def logits() -> Any:
        row = torch.linspace(0, 1, len(tokenizer))
        row[token] = 9.0
        return row

    return logits


# -- random schemas ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_random_logits_follow_random_schemas(
    compiler: GrammarCompiler, tokenizer: Any, seed: int
) -> None:
    schemas, random = Schemas(seed), Random(seed)
    generator = torch.Generator().manual_seed(seed)
    followed = 0
    for _ in range(30):
        schema = schemas.next()
        try:
            compiler.compile(schema_grammar(schema))
        except ApplicationError as error:
            assert error.status == 400
            continue
        text, whole = answered(
            compiler,
            tokenizer,
            schema_grammar(schema),
            logits=lambda: 3 * torch.randn(len(tokenizer), generator=generator),
            budget=random.choice((120, 250)),
        )
        assert whole
        assert complaint(text, schema) == "", (schema, text)
        followed += 1
    assert followed > 20


def test_a_random_model_follows_random_schemas_through_the_engine(random_model: Path) -> None:
    schemas, asked, wanted = Schemas(7), [], []
    model = load(random_model)
    try:
        while len(asked) < 16:
            schema = schemas.next()
            sampling = Sampling(max_tokens=200, seed=len(asked), grammar=schema_grammar(schema))
            request = GenerationRequest(f"r{len(asked)}", prompt="Answer:", sampling=sampling)
            try:
                asked.append(start(model, request))
            except ApplicationError as error:
                assert error.status == 400
                continue
            wanted.append(schema)
        for run, schema in zip(asked, wanted, strict=True):
            text = run.finish().text()
            assert complaint(text, schema) == "", (schema, text)
    finally:
        model.close()


@pytest.mark.parametrize("schema", UNKEPT, ids=lambda schema: sorted(schema)[0])
def test_what_cannot_be_kept_is_refused(compiler: GrammarCompiler, schema: Any) -> None:
    for whole in (schema, {"type": "object", "properties": {"a": {"anyOf": [schema]}}}):
        with pytest.raises(ApplicationError, match="can't be kept") as caught:
            compiler.compile(schema_grammar(whole))
        assert (caught.value.status, caught.value.code) == (400, "invalid_json_schema")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nothing"}, "broken"),
        ({"properties": []}, "broken"),
        ({"type": "string", "minLength": "3"}, "broken"),
        ({"type": "string", "pattern": "("}, "regex"),
        ({"$ref": "#/$defs/none"}, "none"),
        (False, "must be an object"),
        ([], "must be an object"),
        ({"enum": []}, "empty"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "greater"),
    ],
)
def test_broken_schemas_are_refused(compiler: GrammarCompiler, schema: object, said: str) -> None:
    with pytest.raises(ApplicationError, match=said) as caught:
        compiler.compile(schema_grammar(schema))
    assert (caught.value.status, caught.value.code) == (400, "invalid_json_schema")


def test_schemas_too_deep_or_too_long_are_refused(compiler: GrammarCompiler) -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ApplicationError, match="levels deep"):
        compiler.compile(schema_grammar(deep))
    with pytest.raises(ApplicationError, match="longer than"):
        compiler.compile(schema_grammar({"enum": ["x" * 1000 + str(at) for at in range(300)]}))


@pytest.mark.parametrize(
    "grammar", [Grammar("regex", "a("), Grammar("lark", "start: ("), Grammar("lark", "go: /a/")]
)
def test_broken_grammars_are_refused(compiler: GrammarCompiler, grammar: Grammar) -> None:
    with pytest.raises(ApplicationError, match="can't be followed") as caught:
        compiler.compile(grammar)
    assert (caught.value.status, caught.value.code) == (400, "invalid_grammar")


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "number", "exclusiveMinimum": 21, "exclusiveMaximum": 21.5}, "21"),
        ({"allOf": [{"type": "number", "exclusiveMaximum": 0}, {"minimum": -0.2}]}, "-0"),
        ({"type": "object", "minProperties": 2}, '{"a": 1, "a": 2}'),
    ],
)
def test_what_llguidance_would_let_through_is_refused_here(
    compiler: GrammarCompiler, schema: dict[str, Any], wrong: str
) -> None:
    assert complaint(wrong, schema)
    with pytest.raises(ApplicationError, match="can't be kept"):
        compiler.compile(schema_grammar(schema))


def test_a_schema_cannot_loosen_the_rules_for_itself(
    compiler: GrammarCompiler, tokenizer: Any
) -> None:
    lenient = {"not": {"type": "string"}, "x-guidance": {"lenient": True}}
    with pytest.raises(ApplicationError, match="can't be kept"):
        compiler.compile(schema_grammar(lenient))
    spaced = RECORD | {"x-guidance": {"whitespace_flexible": True}}
    for grammar in (
        schema_grammar(spaced),
        Grammar("lark", "start: call\ncall: %json " + json.dumps(spaced)),
    ):
        assert follows(compiler, tokenizer, grammar, '{"a": "x", "합계": 3}')
        assert not follows(compiler, tokenizer, grammar, '{"a":  "x", "합계": 3}')


@pytest.mark.parametrize("form", ["date", "date-time"])
def test_dates_are_days_of_the_calendar(
    compiler: GrammarCompiler, tokenizer: Any, form: str
) -> None:
    behind = "" if form == "date" else "T10:20:30Z"
    grammar = schema_grammar({"type": "string", "format": form, "maxLength": 30})
    for day in ("2024-02-29", "2000-02-29", "2023-02-28", "1999-12-31", "0100-01-01", "2026-04-30"):
        assert follows(compiler, tokenizer, grammar, f'"{day}{behind}"')
    for day in ("2023-02-29", "1900-02-29", "0000-01-01", "2026-04-31", "2026-13-01"):
        assert not follows(compiler, tokenizer, grammar, f'"{day}{behind}"')


# -- what follows and what does not -----------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        (schema_grammar(RECORD), '{"a": "한 \\"x\\"", "합계": 12}', '{"a": "x", "합계": 2}'),
        (schema_grammar(True), '[1, {"a": null}]', "[1,]"),
        (Grammar("json_object"), '{"b": [1.5e3, true]}', "[1]"),
        (
            schema_grammar({"type": "string", "format": "hostname"}),
            '"a.example"',
            f'"{".".join(["a" * 60] * 5)}"',
        ),
        (Grammar("regex", r"[가-힣]{2}-\d+"), "서울-12", "Seoul-12"),
        (Grammar("lark", 'start: "yes" | "아니오"'), "아니오", "no"),
    ],
)
def test_each_kind_of_grammar(
    compiler: GrammarCompiler, tokenizer: Any, grammar: Grammar, right: str, wrong: str
) -> None:
    assert follows(compiler, tokenizer, grammar, right)
    assert not follows(compiler, tokenizer, grammar, wrong)


def test_an_answer_ends_by_itself_or_by_a_token(compiler: GrammarCompiler, tokenizer: Any) -> None:
    closed = compiler.compile(schema_grammar(RECORD))
    for token in tokenizer('{"a": "x", "합계": 12}')["input_ids"]:
        assert not (closed.ended or closed.complete)
        closed.accept(token)
    assert closed.ended
    open_ = compiler.compile(schema_grammar({"type": "integer"}))
    open_.accept(tokenizer("1")["input_ids"][0])
    assert open_.complete
    assert not open_.ended
    open_.accept(compiler.ends[0])
    assert open_.ended


def test_a_forbidden_token_is_not_accepted(compiler: GrammarCompiler, tokenizer: Any) -> None:
    matcher = compiler.compile(schema_grammar(RECORD))
    with pytest.raises(ValueError, match="does not follow"):
        matcher.accept(tokenizer("x")["input_ids"][0])


def test_special_tokens_stay_out_and_marks_are_text(
    compiler: GrammarCompiler, tokenizer: Any
) -> None:
    matcher = compiler.compile(schema_grammar({"type": "string"}))
    matcher.accept(tokenizer('"')["input_ids"][0])
    row = torch.zeros(len(tokenizer))
    matcher.mask(row)
    for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert row[tokenizer.convert_tokens_to_ids(token)] == float("-inf")
    text = "start: " + json.dumps("<tool_call>x</tool_call>")
    assert len(tokenizer("<tool_call>")["input_ids"]) == 1
    assert follows(compiler, tokenizer, Grammar("lark", text), "<tool_call>x</tool_call>")


def test_copies_and_later_requests_go_their_own_way(
    compiler: GrammarCompiler, tokenizer: Any
) -> None:
    first = compiler.compile(schema_grammar({"enum": ["ab", "cd"]}))
    first.accept(tokenizer('"')["input_ids"][0])
    second = first.copy()
    first.accept(tokenizer("a")["input_ids"][0])
    second.accept(tokenizer("c")["input_ids"][0])
    row = torch.zeros(len(tokenizer))
    compiler.compile(schema_grammar({"enum": ["ab", "cd"]})).mask(row)
    allowed = {tokenizer.decode([token]) for token in row.isfinite().nonzero()[:, 0].tolist()}
    assert '"' in allowed
    assert not allowed & {"a", "b", "c", "d"}


def test_rows_are_masked_together_as_one_by_one(compiler: GrammarCompiler, tokenizer: Any) -> None:
    grammars = [schema_grammar(RECORD), Grammar("json_object"), Grammar("regex", "[a-z]+")]
    matchers: list[Matcher | None] = [compiler.compile(grammar) for grammar in grammars]
    matchers.insert(1, None)
    budgets = [5, None, None, 9]
    logits = torch.randn(4, len(tokenizer))
    alone = logits.clone()
    for row, matcher, budget in zip(alone, matchers, budgets, strict=True):
        if matcher is not None:
            matcher.copy().mask(row, budget)
    together = logits.clone()
    fill_masks(matchers, together, budgets)
    assert torch.equal(together, alone)
    assert torch.equal(together[1], logits[1])
    assert (together[0] == float("-inf")).any()


def test_all_logits_of_a_model_wider_than_its_tokenizer_are_masked(tokenizer: Any) -> None:
    compiler = GrammarCompiler(tokenizer, len(tokenizer) + 70)
    row = torch.zeros(len(tokenizer) + 70)
    compiler.compile(Grammar("json_object")).mask(row)
    assert row.isfinite().any()
    assert not row[len(tokenizer) :].isfinite().any()


# -- the end in time --------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [2, 3, 10, 99, 250])
def test_lists_that_a_model_would_open_for_ever_are_closed(
    compiler: GrammarCompiler, tokenizer: Any, budget: int
) -> None:
    text, whole = answered(
        compiler,
        tokenizer,
        schema_grammar(NESTED),
        logits=wishing(tokenizer, "["),
        budget=budget,
    )
    assert whole
    assert complaint(text, NESTED) == ""
    assert text.startswith("[" * (budget // 2))


@pytest.mark.parametrize("wish", ["a", "7", " ", "{", "<tool_call>"])
@pytest.mark.parametrize("budget", [30, 60, 200])
def test_strings_numbers_and_objects_that_would_never_end_are_ended(
    compiler: GrammarCompiler, tokenizer: Any, wish: str, budget: int
) -> None:
    schema = {"type": "object", "properties": {"a": {}, "n": {}}, "required": ["a", "n"]}
    for grammar in (schema_grammar(schema), schema_grammar(RECORD), Grammar("json_object")):
        text, whole = answered(
            compiler, tokenizer, grammar, logits=wishing(tokenizer, wish), budget=budget
        )
        assert whole
        wanted = json.loads(grammar.text) if grammar.text else {"type": "object"}
        assert complaint(text, wanted) == "", text


@pytest.mark.parametrize("pattern", ["a+b", "(foo|bar)+baz", "[^x]*x[^y]*y", r"\d{3}-\d{4}"])
def test_patterns_are_brought_to_their_end(
    compiler: GrammarCompiler, tokenizer: Any, pattern: str
) -> None:
    schema = {"type": "string", "pattern": f"^({pattern})$"}
    grammars = schema_grammar(schema), Grammar("regex", f'"{pattern}"')
    for grammar in grammars:
        text, whole = answered(
            compiler, tokenizer, grammar, logits=wishing(tokenizer, "a"), budget=60
        )
        assert whole
        assert complaint(text, schema) == "", text


def test_a_budget_far_away_changes_nothing(compiler: GrammarCompiler, tokenizer: Any) -> None:
    near, far, none = (torch.ones(len(tokenizer)) for _ in range(3))
    matcher = compiler.compile(schema_grammar(RECORD))
    for token in tokenizer('{"a": "x')["input_ids"]:
        matcher.accept(token)
    matcher.copy().mask(none)
    matcher.copy().mask(far, 500)
    matcher.copy().mask(near, 12)
    assert torch.equal(far, none)
    assert 0 < near.isfinite().sum() < none.isfinite().sum()


def test_a_model_that_ends_in_time_is_left_alone(compiler: GrammarCompiler, tokenizer: Any) -> None:
    """The likeliest tokens are the same with little room as with much, where they fit."""
    wanted = tokenizer('{"a": "sun and moon", "합계": 31}')["input_ids"]
    matcher = compiler.compile(schema_grammar(RECORD))
    for at, token in enumerate(wanted):
        row = torch.linspace(0, 1, len(tokenizer))
        row[token] = 9.0
        matcher.mask(row, len(wanted) - at)
        assert int(row.argmax()) == token
        matcher.accept(token)
    assert matcher.ended


def test_a_budget_too_small_cuts_the_answer(compiler: GrammarCompiler, tokenizer: Any) -> None:
    text, whole = answered(
        compiler, tokenizer, schema_grammar(RECORD), logits=wishing(tokenizer, "a"), budget=3
    )
    assert not whole
    assert '{"a": "", "합계": 3}'.startswith(text)


# -- tools and other tokenizers ---------------------------------------------------------------


@pytest.mark.parametrize("tool_format", [HERMES, LLAMA3, MISTRAL])
def test_forced_calls_end_in_time(
    compiler: GrammarCompiler, tokenizer: Any, tool_format: str
) -> None:
    names = ["first", "second"]
    tools = [
        {"type": "function", "function": {"name": name, "parameters": RECORD}} for name in names
    ]
    grammar = tool_grammar(tool_format, tools, "required")
    assert grammar is not None
    text, whole = answered(compiler, tokenizer, grammar, logits=wishing(tokenizer, "a"), budget=120)
    assert whole
    body = text.strip("[]").removeprefix("<tool_call>").removesuffix("</tool_call>")
    call = json.loads(body)
    assert call["name"] in names
    assert complaint(json.dumps(call.get("arguments", call.get("parameters"))), RECORD) == ""


def other_tokenizer(kind: str) -> Any:
    """As sentencepiece makes them: ▁ for the space, and tokens for bytes."""
    tokenizers = importlib.import_module("tokenizers")
    transformers = importlib.import_module("transformers")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *map(chr, range(33, 127)), "▁a", "th", "é", "합", '",', '":', "▁{"]
    if kind == "bpe":
        model = tokenizers.models.BPE(
            vocab={piece: place for place, piece in enumerate(pieces)},
            merges=[("▁", "a"), ("t", "h"), ('"', ","), ('"', ":"), ("▁", "{")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    else:
        model = tokenizers.models.Unigram(
            [(piece, -float(len(pieces) - place)) for place, piece in enumerate(pieces)],
            unk_id=0,
            byte_fallback=True,
        )
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
        ]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sentencepiece_tokenizers_follow_too(kind: str) -> None:
    tokenizer = other_tokenizer(kind)
    compiler = GrammarCompiler(tokenizer, len(tokenizer))
    assert follows(compiler, tokenizer, schema_grammar(RECORD), '{"a": "the 합é🙂", "합계": 12}')
    generator = torch.Generator().manual_seed(1)
    for schema in (RECORD, NESTED, {"type": "array", "items": {"type": "string"}, "minItems": 3}):
        text, whole = answered(
            compiler,
            tokenizer,
            schema_grammar(schema),
            logits=lambda: 3 * torch.randn(len(tokenizer), generator=generator),
            budget=90,
        )
        assert whole
        assert complaint(text, schema) == "", text
