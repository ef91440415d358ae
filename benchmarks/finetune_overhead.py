"""What the platform costs a training: our job against a plain TRL script with the same settings.

    .venv/bin/python -m benchmarks.finetune_overhead [--rounds 3] [--steps 300] [--write]

A LoRA on a Llama of 3 million random weights, the same rows, batches and checkpoints. Ours runs as
users run it: web, worker, a trainer's process, curves and run in MLflow while it trains. Sides take
turns; tokens a second are those between the first fifth and the end of a run, everything between
counted. Ratios are medians over rounds. Then ours with packing on, against off. `--write` puts
the result into README.md.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from llm.tiny import random_model
from llm.tiny.lessons import corpus
from tests.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"
HEADING = "## Training: what the platform costs"
ROWS = 2000
COMMON = {"batch_size": 8, "learning_rate": 1e-3, "log_steps": 5, "seed": 42, "max_length": 256}
# The platform's own intervals; those of the tests are ten times as short.
AS_SHIPPED = {
    "JOB_LEASE_SECONDS": "30",
    "JOB_RESEND_SECONDS": "10",
    "MAINTENANCE_SECONDS": "5",
    "QUEUE_SEEN_SECONDS": "60",
    "ENGINES_PRELOAD": "",
}


@dataclass(frozen=True, slots=True)
class Side:
    """Of one run: tokens a second in its steady part, bytes, seconds to the first step."""

    pace: float
    memory: float
    first: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = random_model(
            folder / "base", hidden=192, layers=4, heads=6, kv_heads=6, vocab=2048, context=512
        )
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
        mlflow = f"sqlite:///{folder / 'mlflow.db'}"
        with Stack(MLFLOW_TRACKING_URI=mlflow, **AS_SHIPPED) as stack:
            stack.web()
            stack.worker()
            stack.ready()
            prepare(stack, base, rows)
            found = measure(stack, base, rows, folder, given)
    text = table(found, given)
    print(text)
    if given.write:
        write(text)


def texts() -> list[str]:
    random, lines = Random(1), corpus(1)
    return [" ".join(random.sample(lines, random.randint(3, 9))) + f" {n}" for n in range(ROWS)]


def measure(
    stack: Stack, base: Path, rows: Path, folder: Path, given: argparse.Namespace
) -> dict[str, list[Side]]:
    sides = {
        "plain": lambda: plain(base, rows, folder, given),
        "ours": lambda: ours(stack, given, packing="off"),
        "packed": lambda: ours(stack, given, packing="on"),
    }
    found: dict[str, list[Side]] = {name: [] for name in sides}
    for round_ in range(given.rounds):
        # Who begins changes.
        for name in sorted(sides, reverse=bool(round_ % 2)):
            found[name].append(sides[name]())
            print(f"  {round_} {name}: {found[name][-1].pace:.0f} tokens/s", file=sys.stderr)
    return found


def prepare(stack: Stack, base: Path, rows: Path) -> None:
    answer = stack.client.post("/api/v1/llm/models/", json={"name": "base", "source": str(base)})
    answer.raise_for_status()
    with rows.open("rb") as file:
        shares = {"name": "texts", "validation": 0, "test": 0}
        answer = stack.client.post("/api/v1/finetune/datasets/", files={"file": file}, data=shares)
    answer.raise_for_status()
    job = ended(stack, f"/api/v1/finetune/imports/{answer.json()['id']}")
    assert job["status"] == "succeeded", job


def ended(stack: Stack, path: str) -> dict[str, Any]:
    while True:
        job = stack.client.get(path).json()
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return job
        # As seldom as a person looks: to look costs, too.
        time.sleep(1)


def ours(stack: Stack, given: argparse.Namespace, *, packing: str) -> Side:
    options = COMMON | {
        "max_steps": given.steps,
        "save_steps": given.steps // 3,
        "packing": packing,
        "dtype": "float32",
        "warmup": 0,
    }
    body = {"name": f"run-{packing}", "method": "cpt", "base": "base", "dataset": "texts"}
    answer = stack.client.post("/api/v1/finetune/jobs/", json=body | {"options": options})
    answer.raise_for_status()
    path = f"/api/v1/finetune/jobs/{answer.json()['id']}"
    job = ended(stack, path)
    assert job["status"] == "succeeded", job
    points = stack.client.get(f"{path}/metrics", params={"most": 5000}).json()["points"]
    points = [point for point in points if "trained_tokens" in point["values"]]
    created = datetime.fromisoformat(job["created_at"]).timestamp()
    return Side(
        pace([(point["at"], point["values"]["trained_tokens"]) for point in points]),
        max(point["values"]["memory_bytes"] for point in points),
        first_step([(point["at"], point["step"]) for point in points]) - created,
    )


def plain(base: Path, rows: Path, folder: Path, given: argparse.Namespace) -> Side:
    settings = folder / "plain.json"
    more = {"base": str(base), "rows": str(rows), "folder": str(folder / "plain")}
    more |= {"steps": given.steps, "save_steps": given.steps // 3, "packing": False}
    settings.write_text(json.dumps(COMMON | more))
    started = time.time()
    command = [sys.executable, "-m", "benchmarks.peers.trl_plain", str(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    points = [point for point in told if "at" in point]
    return Side(
        pace([(point["at"], point["tokens"]) for point in points]),
        told[-1]["memory"],
        first_step([(point["at"], point["step"]) for point in points]) - started,
    )


def pace(points: list[tuple[float, float]]) -> float:
    start, end = points[len(points) // 5], points[-1]
    return (end[1] - start[1]) / (end[0] - start[0])


def first_step(points: list[tuple[float, int]]) -> float:
    """When the first step was done, from the times of the first two points."""
    (at, step), (later, further) = points[:2]
    return at - (later - at) / (further - step) * (step - 1)


def table(found: dict[str, list[Side]], given: argparse.Namespace) -> str:
    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(side, figure) for side in found[name])

    def ratio(over: str, under: str) -> float:
        pairs = zip(found[over], found[under], strict=True)
        return statistics.median(a.pace / b.pace for a, b in pairs)

    titles = {
        "plain": "plain TRL script",
        "ours": "our job",
        "packed": "our job, packing on",
    }
    lines = [
        HEADING,
        "",
        "    .venv/bin/python -m benchmarks.finetune_overhead --write",
        "",
        "A LoRA (r 16) on a Llama of 3 million random weights, 2,000 texts, batches of 8, fp32,",
        f"{given.steps} steps, three checkpoints; medians of {given.rounds} rounds of sides that",
        "take turns. Ours with web, worker, live curves and MLflow (SQLite) on the same 2 cores.",
        "",
        "| | tokens/s | most memory of the trainer | from submit, or start, to the first step |",
        "| --- | --- | --- | --- |",
        *(
            f"| {title} | {median(name, 'pace'):.0f} | {median(name, 'memory') / 1e6:.0f} MB | "
            f"{median(name, 'first'):.1f} s |"
            for name, title in titles.items()
        ),
        "",
        f"Our job : plain script, tokens/s: {ratio('ours', 'plain'):.3f}. "
        f"Packing on : off: {ratio('packed', 'ours'):.2f}.",
    ]
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    old = README.read_text()
    pattern = re.compile(rf"{re.escape(HEADING)}\n.*?(?=\n## |\Z)", re.DOTALL)
    new = pattern.sub(lambda _: text, old) if HEADING in old else f"{old.rstrip()}\n\n{text}"
    README.write_text(new)


if __name__ == "__main__":
    main()
