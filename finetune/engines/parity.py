"""Whether what is served is what was trained: log-probabilities of the same prompts, side by side.

Three times the next token after each of a few prompts: by the model just trained, while it is still
in memory; by its files, read anew; and by our serving engine, which is asked as a client asks.
"""

from __future__ import annotations

import gc
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from finetune.engines import prepared
from finetune.engines.base import TrainingFailed, TrainSpec
from finetune.engines.language import Base, four_bits
from finetune.engines.prepared import TRAIN, VALIDATION
from finetune.engines.tokens import Row, RowTokens
from llm.engines.base import (
    AdapterSource,
    Delta,
    Ended,
    Event,
    Failed,
    GenerationRequest,
    LoadedModel,
    ModelSource,
    Sampling,
)
from llm.engines.transformers import TransformersEngine
from llm.sources import loadable
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr.engines.torch_library import import_torch

torch = import_torch()

# Prompts that are tried; of plain text, tokens; tokens whose log-probabilities are compared.
PROMPTS, SOME, LIKELIEST = 8, 64, 20
# The furthest that a log-probability may be off, by what is calculated in. Sums are added up in
# another order when served; in half precision that alone is this much.
TOLERANCES = {"float32": 2e-3, "bfloat16": 0.25, "float16": 0.05}
# Served without the base's 4 bits, with which it was trained.
QLORA_TOLERANCE = 1.0
WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A beginning to go on from: its tokens, and the conversation that they stand for, if one."""

    ids: list[int]
    messages: Sequence[Mapping[str, Any]] | None = None
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """Of a prompt's next token: the likeliest tokens' texts with their log-probabilities."""

    token: str
    logprobs: list[float]
    all: Any = field(default=None, repr=False)


def prompts_of(spec: TrainSpec, tokens: RowTokens, count: int = PROMPTS) -> list[Prompt]:
    """Of the first validation rows, or training rows where there are too few."""
    most = tokens.max_length - 1
    rows = chain(*(prepared.rows_of(spec.work, split) for split in (VALIDATION, TRAIN)))
    return [_prompt(row, tokens, most) for row in islice(rows, count)]


def _prompt(row: Row, tokens: RowTokens, most: int) -> Prompt:
    """Of at most `most` tokens."""
    if "messages" in row or "chosen" in row:
        asked = row.get("prompt") or list(row["messages"][:-1])
        tools = row.get("tools") or ()
        ids = tokens.tokens(tokens.render(asked, tools, prompt=True))
        return Prompt(ids, asked, tools) if len(ids) <= most else Prompt(ids[:most])
    if "completion" in row:
        return Prompt(tokens.tokens(row["prompt"], special=True)[:most])
    whole = tokens.tokens(row["text"], special=True)
    return Prompt(whole[: min(SOME, most, max(1, len(whole) // 2))])


def scores(model: Any, prompts: Sequence[Prompt], tokenizer: Any) -> list[Scores]:
    """By a model of the library's."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for prompt in prompts:
        with torch.inference_mode():
            ids = torch.tensor([prompt.ids], device=device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        every = torch.log_softmax(logits.float(), -1).cpu()
        likeliest = every.topk(min(LIKELIEST, len(every)))
        token = tokenizer.decode([int(likeliest.indices[0])])
        found.append(Scores(token, likeliest.values.tolist(), every))
    return found


def check(
    spec: TrainSpec, folder: Path, base: Base, prompts: Sequence[Prompt], trained: list[Scores]
) -> dict[str, Any]:
    """Compares the files in `folder` with `trained`; `fit` is False where they differ too much."""
    tolerance = TOLERANCES[base.place.dtype]
    quantized = spec.options.get("adapter") == "qlora"
    served_tolerance = QLORA_TOLERANCE if quantized else tolerance
    model = reloaded(spec, folder, base)
    again = scores(model, prompts, base.tokenizer)
    del model
    gc.collect()
    torch.cuda.empty_cache()
    sides = {
        "reloaded": _compared(trained, again, tolerance),
        "served": _served(spec, folder, base, prompts, trained, served_tolerance),
    }
    for path in folder.rglob("*"):
        # Laid beside the weights to load them: no part of the result.
        if path.is_symlink():
            path.unlink()
    return {
        "tolerance": tolerance,
        "served_tolerance": served_tolerance,
        "dtype": base.place.dtype,
        "prompts": len(prompts),
        **sides,
        "fit": all(side["agree"] for side in sides.values()),
    }


def reloaded(spec: TrainSpec, folder: Path, base: Base) -> Any:
    """The model as anybody would load it from its files."""
    transformers = importlib.import_module("transformers")
    place = loadable(folder)
    quantized = spec.options.get("adapter") == "qlora"
    options: dict[str, Any] = {
        "dtype": getattr(torch, base.place.dtype),
        "trust_remote_code": spec.trust_remote_code,
    }
    if quantized:
        options |= four_bits(base.place.dtype)
    adapter = (place / "adapter_config.json").is_file()
    source = base.root if adapter else str(place)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, **options)
    if adapter:
        model = importlib.import_module("peft").PeftModel.from_pretrained(model, str(place))
    return model if quantized else model.to(base.place.device)


def _served(
    spec: TrainSpec,
    folder: Path,
    base: Base,
    prompts: Sequence[Prompt],
    trained: list[Scores],
    tolerance: float,
) -> dict[str, Any]:
    place = loadable(folder)
    adapter = (place / "adapter_config.json").is_file()
    source = ModelSource(
        name="parity",
        path=base.root if adapter else str(place),
        dtype=base.place.dtype,
        device=base.place.device,
        # An adapter is called beside its base, whose template is used; a model has its own.
        chat_template=spec.chat_template if adapter else "",
        options={"max_batch": 1, "cache_tokens": max(len(one.ids) for one in prompts) + 64},
    )
    try:
        model = TransformersEngine(device=base.place.device).load(source)
    except EngineUnavailable as error:
        return {"max_difference": None, "agree": False, "message": error.message}
    try:
        called = AdapterSource("parity", str(place)) if adapter else None
        again = [_asked(model, prompt, called) for prompt in prompts]
    except ApplicationError as error:
        return {"max_difference": None, "agree": False, "message": error.message}
    finally:
        model.close()
    return _compared(trained, again, tolerance)


def _asked(model: LoadedModel, prompt: Prompt, adapter: AdapterSource | None) -> Scores:
    events: SimpleQueue[Event] = SimpleQueue()
    given = {"messages": prompt.messages} if prompt.messages else {"prompt": prompt.ids}
    request = GenerationRequest(
        id="parity",
        tools=prompt.tools,
        adapter=adapter,
        sampling=Sampling(max_tokens=1, temperature=0.0, logprobs=LIKELIEST, ignore_eos=True),
        **given,
    )
    model.submit(request, events.put)
    told = []
    while True:
        try:
            event = events.get(timeout=WAIT_SECONDS)
        except Empty as error:
            raise TrainingFailed(
                "The serving engine gave no answer to compare with.", code="crashed"
            ) from error
        if isinstance(event, Failed):
            raise ApplicationError(event.message, code=event.code)
        if isinstance(event, Delta):
            told += event.logprobs
        if isinstance(event, Ended):
            break
    first = told[0]
    return Scores(first.token, [logprob for _, _, logprob in first.top])


def _compared(one: list[Scores], other: list[Scores], tolerance: float) -> dict[str, Any]:
    """The largest difference of log-probabilities, and whether all stay within the tolerance."""
    differences = [
        abs(a - b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left.logprobs, right.logprobs, strict=True)
    ]
    largest = max(differences, default=math.inf)
    same = sum(
        left.token == right.token or _close(left, tolerance)
        for left, right in zip(one, other, strict=True)
    )
    return {
        "max_difference": largest,
        "same_token": same,
        "agree": largest <= tolerance and same == len(one),
    }


def _close(scores: Scores, tolerance: float) -> bool:
    """Whether the two likeliest are nearer to each other than what rounding may do."""
    return len(scores.logprobs) > 1 and scores.logprobs[0] - scores.logprobs[1] <= 2 * tolerance
