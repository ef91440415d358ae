"""Random JSON Schemas, each answered by a model with random weights: does every answer follow?

    python benchmarks/json_schemas.py [--count 10000] [--seed 0] [--max-tokens 512]

Every answer must be JSON, follow its schema (checked by the jsonschema package, numbers as
decimals, formats too) and end within the tokens. What a grammar can't keep must be refused with
status 400. Exits with 1 where one answer does not follow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llm import tiny  # noqa: E402
from llm.engines.base import (  # noqa: E402
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    LoadedModel,
    ModelSource,
    Sampling,
)
from llm.engines.transformers import TransformersEngine  # noqa: E402
from mlops.exceptions import ApplicationError  # noqa: E402
from tests.llm.schemas import Schemas, complaint  # noqa: E402

# Requests under way at once; the engine batches them.
AT_ONCE = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = tiny.random_model(Path(folder) / "model", seed=given.seed, context=4096)
        engine = TransformersEngine(device="cpu")
        options = {"threads": given.threads, "max_batch": AT_ONCE}
        model = engine.load(ModelSource("random", str(path), dtype="float32", options=options))
        try:
            return report(model, given)
        finally:
            model.close()


def report(model: LoadedModel, given: argparse.Namespace) -> int:
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    tokens, start = 0, time.perf_counter()
    for done, (schema, outcome) in enumerate(answers(model, given), start=1):
        if done % 1000 == 0:
            print(f"{done} after {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if isinstance(outcome, ApplicationError):
            if outcome.status != 400:
                raise outcome
            counts["refused"] += 1
            refused[reason(outcome.message)] += 1
            continue
        text, why, made = outcome
        tokens += made
        said = complaint(text, schema)
        counts["followed" if not said else "NOT FOLLOWED"] += 1
        counts[f"  ended by {'itself' if why == 'stop' else 'the last token'}"] += 1
        if said:
            print(f"{why} after {made}: {said}\n  {json.dumps(schema)}\n  {text!r}", flush=True)
    seconds = time.perf_counter() - start
    print(f"\n{given.count} schemas, seed {given.seed}, at most {given.max_tokens} tokens")
    for name, count in counts.most_common():
        print(f"{count:7} {name}")
    print(f"{tokens:7} tokens in {seconds:.0f} s, {tokens / seconds:.0f} a second")
    print("refused for:")
    for name, count in refused.most_common():
        print(f"{count:7} {name}")
    return 1 if counts["NOT FOLLOWED"] else 0


def answers(
    model: LoadedModel, given: argparse.Namespace
) -> Iterator[tuple[Any, ApplicationError | tuple[str, str, int]]]:
    """Each schema with its refusal, or its answer, why that ended, and its tokens."""
    schemas = Schemas(given.seed)
    events: SimpleQueue[tuple[str, Event]] = SimpleQueue()
    open_: dict[str, tuple[Any, list[str], list[str]]] = {}
    left = given.count
    while left or open_:
        while left and len(open_) < AT_ONCE:
            left -= 1
            schema, name = schemas.next(), str(left)
            sampling = Sampling(
                max_tokens=given.max_tokens,
                seed=left,
                grammar=Grammar("json_schema", json.dumps(schema)),
            )
            request = GenerationRequest(id=name, prompt="Answer:", sampling=sampling)
            try:
                model.submit(request, lambda event, name=name: events.put((name, event)))
            except ApplicationError as error:
                yield schema, error
                continue
            open_[name] = (schema, [], [])
        if not open_:
            continue
        name, event = events.get(timeout=300)
        schema, texts, reasons = open_[name]
        match event:
            case Delta():
                texts.append(event.text)
            case Finished():
                reasons.append(event.reason)
            case Ended():
                del open_[name]
                yield schema, ("".join(texts), reasons[0], event.usage.completion)
            case Failed():
                raise SystemExit(f"{event.message}\n{json.dumps(schema)}")


def reason(message: str) -> str:
    """A refusal without what belongs to its schema alone."""
    return message.split(": ", 1)[-1].split(":")[0][:70]


if __name__ == "__main__":
    raise SystemExit(main())
