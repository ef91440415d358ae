"""The same model and prompts through this platform, through `transformers serve`, through a loop.

    .venv/bin/python benchmarks/llm_serving.py [--rounds 3] [--clients 1,8,32] [--only "A;B"]

A Llama of 123 million random weights, saved as bf16. Ours loads it as it does by default; the
others in bf16 and in fp32, and for each number of clients the quicker of the two is measured. 64
tokens are written to each prompt, greedily. Contenders take turns within a round, and in each
round prompts are new; the others are stopped meanwhile. Ratios are medians over rounds.
Exactness: what ours writes in fp32, with 8 requests at once, against `generate`. `--write` puts
the result into README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers.generation import (  # noqa: E402  (the path above)
    Loop,
    Messages,
    Platform,
    Quicker,
    Run,
    Side,
    serve_llm,
    transformers_serve,
)
from llm.tiny import random_model  # noqa: E402
from llm.tiny.lessons import corpus  # noqa: E402

README = ROOT / "benchmarks" / "README.md"
HEADING = "## Language models: serving"
TOKENS = 64
SIZES = {
    "hidden": 768,
    "layers": 12,
    "heads": 12,
    "kv_heads": 4,
    "intermediate": 2048,
    "vocab": 31000,
    "context": 4096,
    "initializer_range": 0.02,
}
# Requests in a run: enough for a few seconds each.
REQUESTS = {1: 4, 8: 16, 32: 64}
DTYPES = ("bfloat16", "float32")
RIVAL, LOOP = "transformers serve", "plain generate loop"
PLATFORM, SERVER = "ours, the platform", "ours, serve_llm"


def make_model(folder: Path) -> Path:
    """Without an end-of-sequence token, so that nobody ends before the 64th."""
    random_model(folder, dtype="bfloat16", **SIZES)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        settings = {**json.loads(path.read_text()), "eos_token_id": None}
        path.write_text(json.dumps(settings))
    return folder


def make_prompts(seed: int, count: int) -> list[Messages]:
    """20 to 60 words each, none like another."""
    random, lines = Random(seed), corpus(seed)
    return [
        [{"role": "user", "content": " ".join(random.sample(lines, random.randint(2, 6)))[:300]}]
        for _ in range(count)
    ]


def measure(
    sides: list[Side], clients: list[int], rounds: int
) -> tuple[dict[tuple[str, int], list[Run]], dict[str, float]]:
    runs: dict[tuple[str, int], list[Run]] = {}
    memory: dict[str, float] = {}
    for side in sides:
        side.rest()
    for count in clients:
        for side in sides:
            side.wake()
            rate = side.warm_up(make_prompts(count, count), TOKENS, count)
            side.rest()
            print(
                f"  warm-up, {count} clients, {side.name}: {rate:.0f}", file=sys.stderr, flush=True
            )
    for number in range(rounds):
        turn = number % len(sides)
        for count in clients:
            prompts = make_prompts(1000 * (number + 1) + count, REQUESTS[count])
            for side in [*sides[turn:], *sides[:turn]]:
                # However many wait, the loop takes one after the other: as many tokens a second.
                mine = prompts[: REQUESTS[1]] if side.name == LOOP else prompts
                side.wake()
                run = side.run(mine, TOKENS, count)
                memory[side.name] = max(memory.get(side.name, 0), side.memory())
                side.rest()
                assert run.tokens == TOKENS * len(mine), (side.name, run.tokens)
                print(
                    f"  {number} {count:>2} {side.name}: {run.rate:.0f}",
                    file=sys.stderr,
                    flush=True,
                )
                runs.setdefault((side.name, count), []).append(run)
    return runs, memory


def exactness(folder: Path, work: Path) -> str:
    """In fp32, where the likeliest token does not depend on the order of additions."""
    prompts = make_prompts(7, 32)
    loop = Loop(folder, dtype="float32")
    wanted = loop.run(prompts, TOKENS, 1).texts
    loop.close()
    server = serve_llm(folder, work / "exact.log", dtype="float32")
    found = server.run(prompts, TOKENS, 8).texts
    server.close()
    same = sum(one == other for one, other in zip(wanted, found, strict=True))
    return f"{same} of {len(prompts)} answers are, character for character, those of `generate`"


def ratio(
    runs: dict[tuple[str, int], list[Run]], ours: str, other: str, clients: int
) -> float | None:
    mine, theirs = runs.get((ours, clients)), runs.get((other, clients))
    if not mine or not theirs:
        return None
    return statistics.median(a.rate / b.rate for a, b in zip(mine, theirs, strict=True))


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)] if values else 0.0


def report(
    runs: dict[tuple[str, int], list[Run]],
    memory: dict[str, float],
    names: list[str],
    clients: list[int],
) -> list[str]:
    heads = [f"{count} client{'s' if count > 1 else ''}" for count in clients]
    lines = [f"| tokens/s | {' | '.join(heads)} | MB |", f"|{' --- |' * (len(clients) + 2)}"]
    for name in names:
        cells = [f"{_median(runs[name, count], lambda run: run.rate):.0f}" for count in clients]
        lines.append(f"| {name} | {' | '.join(cells)} | {memory[name]:.0f} |")
    lines += ["", f"| ratio of tokens/s | {' | '.join(heads)} |"]
    lines.append(f"|{' --- |' * (len(clients) + 1)}")
    for mine in (PLATFORM, SERVER):
        for other in (RIVAL, LOOP):
            found = [ratio(runs, mine, other, count) for count in clients]
            if any(found):
                cells = ["" if one is None else f"{one:.2f}" for one in found]
                lines.append(f"| {mine} : {other} | {' | '.join(cells)} |")
    lines += ["", f"| ms, median (95 %) | {' | '.join(heads)} |"]
    lines.append(f"|{' --- |' * (len(clients) + 1)}")
    for name in names:
        for what in ("first", "gaps"):
            label = "to the first token" if what == "first" else "between tokens"
            cells = []
            for count in clients:
                values = [value for run in runs[name, count] for value in getattr(run, what)]
                cells.append(f"{statistics.median(values) * 1000:.0f} ({p95(values) * 1000:.0f})")
            lines.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return lines


def _median(runs: list[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(map(of, runs))


def write(lines: list[str]) -> None:
    """In place of the section's earlier text, or at the end."""
    text = README.read_text()
    section = f"{HEADING}\n\n" + "\n".join(lines) + "\n"
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, re.M | re.S)
    if found:
        text = text[: found.start()] + section + "\n" + text[found.end() :]
    else:
        text = text.rstrip() + "\n\n" + section
    README.write_text(text.rstrip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--only", default="", help="contenders by name, separated by semicolons")
    parser.add_argument("--no-exactness", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    # Told to stop, it ends its contenders first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    clients = [int(count) for count in options.clients.split(",")]
    with tempfile.TemporaryDirectory(prefix="llm-") as name, ExitStack() as stack:
        work = Path(name)
        folder = make_model(work / "model")
        makers: dict[str, Callable[[], Side]] = {
            PLATFORM: lambda: Platform(folder),
            SERVER: lambda: serve_llm(folder, work / "ours.log"),
            RIVAL: lambda: Quicker(
                RIVAL,
                {
                    dtype: transformers_serve(folder, work / f"rival-{dtype}.log", dtype=dtype)
                    for dtype in DTYPES
                },
            ),
            LOOP: lambda: Quicker(LOOP, {dtype: Loop(folder, dtype=dtype) for dtype in DTYPES}),
        }
        names = options.only.split(";") if options.only else list(makers)
        exact = "" if options.no_exactness else exactness(folder, work)
        sides = []
        for side_name in names:
            side = makers[side_name]()
            stack.callback(side.close)
            sides.append(side)
        runs, memory = measure(sides, clients, options.rounds)
        dtypes = [
            f"{side.name} {', '.join(f'{dtype} at {n}' for n, dtype in side.chosen.items())}"
            for side in sides
            if isinstance(side, Quicker)
        ]
    text = (
        f"A Llama of 123 million random weights, {TOKENS} tokens to a prompt of 20 to 80, greedy, "
        f"streamed; {len(os.sched_getaffinity(0))} cores for servers and clients together; medians "
        f"of {options.rounds} rounds. Ours in its default dtype, the others in the one that they "
        f"are quicker in: {'; '.join(dtypes)}. All of them with GOMP_SPINCOUNT as "
        "`ocr/engines/torch_library.py` sets it."
    )
    lines = [
        "    .venv/bin/python benchmarks/llm_serving.py --write",
        "",
        *textwrap.wrap(text, 100),
        "",
        *report(runs, memory, names, clients),
        *(["", f"In fp32 {exact}."] if exact else []),
    ]
    print("\n".join(lines))
    if options.write:
        write(lines)


if __name__ == "__main__":
    main()
