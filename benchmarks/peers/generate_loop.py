"""`model.generate` of transformers, one prompt after the other; driven by lines of JSON.

{"prompts": [[...messages...]], "tokens": 64} -> {"texts", "first", "gaps", "seconds"}
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from ocr.engines.torch_library import import_torch


class Clock:
    """A streamer that only looks at the time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is held back."""


def main(folder: str, dtype: str) -> None:
    torch = import_torch()
    transformers = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        texts, first, gaps = [], [], []
        began = time.perf_counter()
        for messages in asked["prompts"]:
            started, clock = time.perf_counter(), Clock()
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                made = model.generate(
                    **ids,
                    max_new_tokens=asked["tokens"],
                    min_new_tokens=asked["tokens"],
                    do_sample=False,
                    streamer=clock,
                )
            texts.append(
                tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
            )
            # The first thing that a streamer is given is the prompt.
            times = clock.times[1:]
            first.append(times[0] - started)
            gaps += [after - before for before, after in itertools.pairwise(times)]
        answer = {"seconds": time.perf_counter() - began, "texts": texts}
        sys.stdout.write(json.dumps({**answer, "first": first, "gaps": gaps}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
