"""Grammars that answers are held to, by llguidance; and their end before the tokens run out."""

from __future__ import annotations

import importlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from llm.engines.base import Grammar
from llm.engines.endings import Endings, Orders, quoted
from llm.json_schema import InvalidSchema, check_schema, largest_value, patterns, subschemas
from mlops.exceptions import ApplicationError, NotInstalled

# Without whitespace between its parts JSON has no place where a model could dawdle for ever.
# The others are llguidance's own defaults, said so that a schema's "x-guidance" can't change them.
JSON_OPTIONS = {
    "whitespace_flexible": False,
    "lenient": False,
    "coerce_one_of": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
# Compiled grammars kept; a document's extraction uses the same one for every page.
_KEPT = 64
# How much longer the way to the end may get by one token, beside the values that it begins.
_GROWTH = 16
# The longest way to an end that is looked for at a grammar's beginning, in tokens.
_LONGEST = 2048
# What llguidance's formats leave out: how long a host's name (RFC 1035) and an address (RFC 5321)
# may be; and of dates that there was no year 0, and when February has 29 days.
_LENGTHS = {"hostname": 253, "email": 254}
_LEAP_YEAR = r"(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DATES = (
    r"^\d*[1-9]\d*-",
    rf"^{_LEAP_YEAR}-02-29|^\d{{4}}-(02-([01]\d|2[0-8])|(0[13-9]|1[0-2])-\d\d)",
)
# Tokens looked at, of the likeliest ones, where the end is near; and those looked at in depth.
_CANDIDATES, _SEARCHED = 24, 3


class GrammarCompiler:
    """Compiles grammars for one tokenizer. Safe from several threads; matchers are not."""

    def __init__(self, tokenizer: Any, vocab_size: int, *, ends: Sequence[int] = ()) -> None:
        """`tokenizer`: a fast one of transformers. `vocab_size`: the width of the logits.

        `ends`: the tokens that end an answer, by default the tokenizer's own. Building takes from
        0.03 s at 1,000 tokens to seconds at 150,000, so build one a model.
        """
        try:
            llguidance = importlib.import_module("llguidance")
        except ImportError as error:
            raise NotInstalled(
                "Grammars need llguidance: pip install -r requirements/llm.txt"
            ) from error
        if not tokenizer.is_fast:
            raise ApplicationError(
                "Only models with a fast tokenizer (tokenizer.json) can follow a grammar.",
                code="invalid_grammar",
            )
        self._llguidance = llguidance
        self.vocab_size = vocab_size
        self.ends = tuple(ends) or (tokenizer.eos_token_id,)
        self._tokens = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Vocabulary(llguidance, tokenizer)),
            n_vocab=max(vocab_size, len(tokenizer)),
            eos_token=list(self.ends),
        )
        self.endings = Endings(self._tokens, self.ends, vocab_size)
        self.executor = llguidance.LLExecutor()
        self._compiled: OrderedDict[Grammar, Matcher] = OrderedDict()
        self._lock = Lock()
        self.compile(Grammar("json_object"))

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the grammar's beginning.

        Raises ApplicationError, status 400: invalid_json_schema for a schema that is broken or
        can't be kept in every point, invalid_grammar for all else.
        """
        with self._lock:
            known = self._compiled.get(grammar)
            if known is not None:
                self._compiled.move_to_end(grammar)
                return known.copy()
        made = self._compile(grammar)
        with self._lock:
            self._compiled[grammar] = made
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return made.copy()

    def _compile(self, grammar: Grammar) -> Matcher:
        matcher, growth, hint, brackets = self._llguidance.LLMatcher, _GROWTH, "", True
        match grammar.kind:
            case "json_object" | "json_schema":
                schema = _schema(grammar)
                growth, hint = growth + largest_value(schema), patterns(schema)
                text = matcher.grammar_from_json_schema(json.dumps(schema), overrides=JSON_OPTIONS)
            case "regex":
                text, hint = matcher.grammar_from_regex(grammar.text), grammar.text
                brackets = False
            case "lark":
                lark, schemas = _with_options(grammar.text)
                growth += max(map(largest_value, schemas), default=0)
                hint = "".join(map(patterns, schemas)) if schemas else grammar.text
                brackets = bool(schemas)
                text = matcher.grammar_from_lark(lark)
        made = matcher(self._tokens, text, log_level=0)
        if made.is_error():
            reason = made.get_error().strip().split("\n")[0]
            if grammar.kind == "json_schema":
                raise InvalidSchema(f"The JSON Schema can't be kept: {reason}")
            raise ApplicationError(
                f"The {grammar.kind} can't be followed: {reason}", code="invalid_grammar"
            )
        orders = self.endings.orders(hint, json=brackets)
        ending = self.endings.find(made, orders, most=_LONGEST)
        return Matcher(self, made, orders=orders, growth=growth, ending=ending)


class Matcher:
    """Where one answer stands in its grammar.

    For each token: `mask`, choose one, `accept` it; done once `ended`. Give `mask` the number of
    tokens that may still be made: with it an answer is brought to its end in time, without it a
    model that never closes a string or a list is cut in the middle.
    """

    def __init__(
        self,
        compiler: GrammarCompiler,
        matcher: Any,
        *,
        orders: Orders,
        growth: int,
        ending: list[int] | None,
    ) -> None:
        self._compiler, self._matcher = compiler, matcher
        self._orders, self._growth = orders, growth
        # A way to the end that holds now, and the most tokens that the shortest one takes.
        self._ending, self._bound = ending, len(ending or ())
        # Ways to the end behind the candidates that the last mask has looked at.
        self._behind: dict[int, list[int]] = {}
        self._quoted = (False, False)

    @property
    def ended(self) -> bool:
        """Nothing may follow: the answer is over without a token that says so."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """What there is by now follows the grammar, though more may come (as digits after 1)."""
        return bool(self._matcher.is_accepting())

    def copy(self) -> Matcher:
        """The same place, to go on from apart."""
        made = Matcher(
            self._compiler,
            self._matcher.deep_copy(),
            orders=self._orders,
            growth=self._growth,
            ending=self._ending,
        )
        made._bound, made._quoted = self._bound, self._quoted
        return made

    def mask(self, row: Any, budget: int | None = None) -> None:
        """Sets the forbidden tokens of `row`, one position's logits, to -inf in place.

        `budget`: how many tokens may still be made, this one counted, the one that ends the answer
        not. While it is far larger than what the grammar needs to its end, it costs nothing. Near
        that, of the 24 likeliest tokens those are left that leave room for an end, and the one
        that leads there; so an answer is whole after `budget` tokens at the latest. This can't be
        kept where the budget was too small from the beginning, or no end was found (a pattern that
        is ended by few of its texts only): then the answer is cut.

        Raises ApplicationError, invalid_grammar, for a grammar that has turned out too complex.
        """
        fill_masks([self], row[None], [budget])

    def accept(self, token: int) -> None:
        """Goes on by one token. Raises ValueError for one that the mask forbids."""
        if not self._matcher.consume_token(token):
            raise ValueError(f"Token {token} does not follow: {self._matcher.get_error()}")
        self._quoted = quoted(self._compiler.endings.texts[token], self._quoted)
        behind = self._behind.get(token)
        self._behind = {}
        if behind is not None:
            self._ending = behind
        elif self._ending:
            if self._ending[0] == token:
                self._ending = self._ending[1:]
            elif not self._compiler.endings.holds(self._matcher, self._ending):
                self._ending = None
        else:
            self._ending = None
        self._bound = self._bound + self._growth if self._ending is None else len(self._ending)

    # -- the end in time ----------------------------------------------------------------------

    def steer(self, row: Any, budget: int) -> None:
        """Leaves of a masked row what can be brought to an end; see `mask`."""
        if self._bound + self._growth < budget or self.ended:
            return
        endings = self._compiler.endings
        if self._ending is None:
            self._ending = endings.find(
                self._matcher, self._orders, most=budget, state=self._quoted
            )
            if self._ending is None:
                # Nothing to steer by; the next token may lead where there is.
                return
        self._bound = len(self._ending)
        if self._bound + self._growth < budget:
            return
        self._behind = self._room(row, budget)
        if self._behind or self.complete:
            kept = [*self._behind, *(self._compiler.ends if self.complete else ())]
            values = row[kept].clone()
            row.fill_(float("-inf"))
            row[kept] = values

    def _room(self, row: Any, budget: int) -> dict[int, list[int]]:
        """Of the likeliest tokens those that leave room, each with the way to the end behind it."""
        endings, ending = self._compiler.endings, self._ending
        assert ending is not None
        found: dict[int, list[int]] = {}
        if ending:
            found[ending[0]] = ending[1:]
        if len(ending) >= budget:
            return found
        values, tokens = row.topk(min(_CANDIDATES, row.shape[0]))
        searched = 0
        for token, value in zip(tokens.tolist(), values.tolist(), strict=True):
            if value == float("-inf"):
                break
            if token in found or token in self._compiler.ends:
                continue
            # The same way on, or without its first step where this token takes that one's place.
            ways = [
                way for way in (ending[1:], ending) if endings.holds(self._matcher, [token, *way])
            ]
            if ways:
                found[token] = ways[0]
            elif searched < _SEARCHED:
                searched += 1
                after = self._matcher.deep_copy()
                after.consume_token(token)
                state = quoted(endings.texts[token], self._quoted)
                behind = endings.find(after, self._orders, most=budget - 1, state=state)
                if behind is not None:
                    found[token] = behind
        return found

    def failure(self) -> str:
        """Why it can't go on; "" where it can."""
        return self._matcher.get_error() if self._matcher.is_error() else ""


def fill_masks(
    matchers: Sequence[Matcher | None], logits: Any, budgets: Sequence[int | None] | None = None
) -> None:
    """`Matcher.mask` for the rows of `logits`, shape (rows, vocabulary), in one call.

    All matchers are of one compiler; rows without one are left as they are.
    """
    rows = [at for at, matcher in enumerate(matchers) if matcher is not None]
    if not rows:
        return
    own = [matcher for matcher in matchers if matcher is not None]
    compiler = own[0]._compiler
    width = (compiler._tokens.vocab_size + 31) // 32
    bits = np.zeros((len(own), width), dtype=np.int32)
    compiler.executor.unsafe_compute_mask_ptr(
        [(matcher._matcher, at) for at, matcher in enumerate(own)],
        bits.ctypes.data,
        width * 4,
        len(own),
    )
    allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little", count=logits.shape[1])
    for at, matcher, free in zip(rows, own, allowed, strict=True):
        reason = matcher.failure()
        if reason:
            raise ApplicationError(
                f"The grammar has turned out too complex to be followed: {reason}",
                code="invalid_grammar",
            )
        _forbid(logits[at], free)
        budget = budgets[at] if budgets is not None else None
        if budget is not None:
            matcher.steer(logits[at], budget)


def _forbid(row: Any, allowed: np.ndarray) -> None:
    """-inf where `allowed` is 0: by the shorter of the two lists, as a mask takes far longer."""
    torch = importlib.import_module("torch")
    many = 2 * np.count_nonzero(allowed) > len(allowed)
    listed = np.flatnonzero(allowed == 0) if many else np.flatnonzero(allowed)
    places = torch.from_numpy(listed).to(row.device)
    if many:
        row[places] = float("-inf")
    else:
        values = row[places]
        row.fill_(float("-inf"))
        row[places] = values


def _schema(grammar: Grammar) -> dict[str, Any]:
    if grammar.kind == "json_object":
        return {"type": "object"}
    try:
        schema = json.loads(grammar.text)
    except json.JSONDecodeError as error:
        raise InvalidSchema(f"The JSON Schema is no JSON: {error}.") from error
    check_schema(schema)
    for _, inner in list(subschemas(schema)):
        kind = inner.get("format")
        if kind in _LENGTHS:
            inner["maxLength"] = min(_LENGTHS[kind], inner.get("maxLength", _LENGTHS[kind]))
        if kind in ("date", "date-time"):
            inner["allOf"] = [*inner.get("allOf", ()), *({"pattern": one} for one in _DATES)]
    return {} if schema is True else schema


def _with_options(lark: str) -> tuple[str, list[Any]]:
    """The grammar with its schemas followed as those that stand alone are, and these schemas.

    A schema has to stand on one line, behind %json.
    """
    lines, schemas = [], []
    for line in lark.split("\n"):
        rule, mark, text = line.partition("%json ")
        if mark:
            schema = _schema(Grammar("json_schema", text))
            schemas.append(schema)
            line = rule + mark + json.dumps(schema | {"x-guidance": JSON_OPTIONS})
        lines.append(line)
    return "\n".join(lines), schemas


class _Vocabulary:
    """The tokens as llguidance takes them, with marks such as <tool_call> as the text they are.

    Reading a tokenizer by itself it takes all added tokens for special ones, of which no text is
    made, and then can't follow a text that the tokenizer makes such tokens of.
    """

    def __init__(self, llguidance: Any, tokenizer: Any) -> None:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        backend["padding"] = backend["truncation"] = None
        self._read = llguidance.LLTokenizer(json.dumps(backend))
        marks = {token["id"]: token["content"] for token in backend["added_tokens"]}
        texts = {token["id"] for token in backend["added_tokens"] if not token["special"]}
        # What llguidance asks of a tokenizer.
        self.eos_token_id, self.bos_token_id = self._read.eos_token, None
        self.tokens = [
            marks[token].encode() if token in marks else self._read.decode_bytes([token])
            for token in range(self._read.vocab_size)
        ]
        self.special_token_ids = sorted(marks.keys() - texts)

    def __call__(self, text: bytes) -> list[int]:
        return list(self._read.tokenize_bytes(text))
