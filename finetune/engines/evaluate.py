"""The process that evaluates one language model: `python -m finetune.engines.evaluate SPEC.json`.

    <work>/spec.json      EvaluationSpec: written before the start
    <work>/rows.jsonl     {"number": n, "row": {…}} in canonical form, one a line
    <work>/events.jsonl   Phase, Answered; at the end Ended, Stopped or Failed

It works on a copy of its own, never on the instance that serves. Each row of an Answered has
"number", and where they were asked for "output", "loss" (summed, in nats), "tokens", "right" and,
of a preference, "rejected_loss"; "error" says why there is no output. Where tools are called,
"calls" holds each with its "name" and "arguments", and "text" what is said beside them.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from finetune.engines.base import Answered, Ended, Failed, Phase, Stopped, Teller
from finetune.engines.process import choose_device, end_with_parent
from finetune.engines.telling import FileTeller
from llm.engines.base import AdapterSource, ModelSource
from mlops.exceptions import ApplicationError, EngineUnavailable

ROWS = "rows.jsonl"
# Rows told of at once, and how long the first of them may wait for the others.
TOGETHER, SECONDS = 64, 0.5
TOO_LONG = "The row is longer than the model's context."


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """One model on some rows. `base` and `adapter` are folders or hub names.

    `device`: cpu or cuda:N. `answers`: whether it is to write; `max_tokens` is the most that an
    answer may have.
    """

    folder: str
    kind: str
    base: str
    adapter: str = ""
    chat_template: str = ""
    dtype: str = "auto"
    quantization: str = ""
    context_length: int = 0
    device: str = "cpu"
    answers: bool = True
    max_tokens: int = 256

    def write(self) -> Path:
        path = Path(self.folder) / "spec.json"
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @property
    def source(self) -> ModelSource:
        return ModelSource(
            name="evaluated",
            path=self.base,
            dtype=self.dtype,
            # The others are hidden from this process.
            device="cpu" if self.device == "cpu" else "cuda",
            quantization=self.quantization,
            context_length=self.context_length,
            chat_template=self.chat_template,
        )


class AskedToStop(Exception):
    """Whoever started the process wants it to end; what was told is kept."""


def main(arguments: list[str]) -> int:
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    spec = EvaluationSpec.read(Path(arguments[0]))
    teller = FileTeller(Path(spec.folder))
    choose_device(spec.device, alone=True)
    try:
        evaluate(spec, teller)
    except AskedToStop:
        teller.tell(Stopped(step=0))
    except (EngineUnavailable, ApplicationError) as error:
        teller.tell(Failed(code="bad_model", message=error.message))
        return 1
    # Whatever it is, whoever started this process must be told.
    except Exception as error:
        teller.tell(_failed(error))
        return 1
    return 0


def evaluate(spec: EvaluationSpec, teller: Teller) -> None:
    """Raises AskedToStop between two pieces of work."""
    rows = _rows(spec)
    told = _Told(teller)
    facts: dict[str, Any] = {"rows": len(rows)}
    teller.tell(Phase(name="loading"))
    found, prompts = _losses(spec, rows, teller, facts)
    if not spec.answers:
        for number, values in found.items():
            told.add({"number": number, **values})
    else:
        tools = frozenset(number for number, row in rows.items() if _offers_tools(row))
        _answers(spec, found, prompts, tools, teller, told, facts)
    told.flush()
    teller.tell(Ended(facts=facts))


def _losses(
    spec: EvaluationSpec, rows: dict[int, dict[str, Any]], teller: Teller, facts: dict[str, Any]
) -> tuple[dict[int, dict[str, Any]], dict[int, list[int]]]:
    """What each row's answer costs the model, and the tokens of the prompts to answer."""
    # Here, because they import torch.
    loading = importlib.import_module("llm.engines.slots.loading")
    scoring = importlib.import_module("finetune.engines.scoring_loss")
    tokens = importlib.import_module("finetune.engines.scoring_tokens")
    loaded = loading.load(spec.source, download=True)
    model = scoring.with_adapter(loaded.model, spec.adapter) if spec.adapter else loaded.model
    teller.tell(Phase(name="measuring"))
    reader = tokens.RowTokens(loaded.tokenizer, template=spec.chat_template)
    found: dict[int, dict[str, Any]] = {}
    prompts: dict[int, list[int]] = {}
    asked = []
    for number, row in rows.items():
        try:
            pieces = reader.asked(spec.kind, row)
        except (ValueError, TypeError, KeyError, *_template_errors()) as error:
            found[number] = {"error": f"The chat template refuses the row: {error}"}
            continue
        found[number], prompts[number] = {}, pieces[0].prompt
        asked += [((number, place), one) for place, one in enumerate(pieces)]
    started = time.perf_counter()
    context = spec.context_length or _context(loaded.model)
    for (number, place), figures in scoring.measured(model, asked, context=context):
        _look(teller)
        if figures is None:
            found[number]["error"] = TOO_LONG
        elif place:
            found[number]["rejected_loss"] = figures.loss
        else:
            found[number] |= {
                "loss": figures.loss,
                "tokens": figures.tokens,
                "right": figures.right,
            }
    facts |= {
        "device": str(model.device),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "loss_seconds": round(time.perf_counter() - started, 3),
    }
    return found, prompts


def _answers(
    spec: EvaluationSpec,
    found: dict[int, dict[str, Any]],
    prompts: dict[int, list[int]],
    tools: frozenset[int],
    teller: Teller,
    told: _Told,
    facts: dict[str, Any],
) -> None:
    engines = importlib.import_module("llm.engines.transformers")
    scoring = importlib.import_module("finetune.engines.scoring_answers")
    calls = importlib.import_module("finetune.engines.scoring_calls")
    teller.tell(Phase(name="answering"))
    for number in found.keys() - prompts.keys():
        told.add({"number": number, **found[number]})
    model = engines.TransformersEngine(download=True).load(spec.source)
    adapter = AdapterSource("adapter", spec.adapter) if spec.adapter else None
    questions = [scoring.Question(number, prompt) for number, prompt in prompts.items()]
    started, tokens = time.perf_counter(), 0
    try:
        for answer in scoring.answers(
            model,
            questions,
            adapter=adapter,
            max_tokens=spec.max_tokens,
            look=lambda: _look(teller),
        ):
            values = {"number": answer.number, "output": answer.text, **found[answer.number]}
            if answer.error:
                values["error"] = answer.error
            elif answer.number in tools:
                text, made = calls.read_calls(answer.text, model.tool_format)
                values |= {"text": text, "calls": made} if made else {}
            tokens += answer.tokens
            told.add(values)
    finally:
        model.close()
    seconds = time.perf_counter() - started
    facts |= {"answer_seconds": round(seconds, 3), "answer_tokens": tokens}


class _Told:
    """Gathers rows, so that one line of events holds many."""

    def __init__(self, teller: Teller) -> None:
        self._teller, self._rows, self._since = teller, list[dict[str, Any]](), 0.0

    def add(self, row: dict[str, Any]) -> None:
        if not self._rows:
            self._since = time.monotonic()
        self._rows.append(row)
        if len(self._rows) >= TOGETHER or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._teller.tell(Answered(rows=self._rows))
            self._rows = []


def _rows(spec: EvaluationSpec) -> dict[int, dict[str, Any]]:
    with (Path(spec.folder) / ROWS).open(encoding="utf-8") as file:
        read = (json.loads(line) for line in file)
        return {one["number"]: one["row"] for one in read}


def _offers_tools(row: dict[str, Any]) -> bool:
    """Whether an answer to it may call something; else what looks like a call is text."""
    called = "messages" in row and row["messages"][-1].get("tool_calls")
    return bool(row.get("tools") or called)


def _look(teller: Teller) -> None:
    if teller.asked_to_stop():
        raise AskedToStop


def _context(model: Any) -> int:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31


def _template_errors() -> tuple[type[Exception], ...]:
    return (importlib.import_module("jinja2").TemplateError,)


def _failed(error: Exception) -> Failed:
    text = f"{type(error).__name__}: {error}"
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in text:
        return Failed(
            code="out_of_memory",
            message="Memory ran out. Evaluate where more is free, or shorter rows.",
        )
    return Failed(
        code="crashed", message=text, traceback="".join(traceback.format_exception(error))
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
