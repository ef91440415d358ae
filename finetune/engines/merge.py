"""The process that merges an adapter into its base: `python -m finetune.engines.merge SPEC.json`.

    <work>/spec.json      TrainSpec: `base` is the base, `begin_with` the adapter's folder
    <work>/result/        the whole model, in the base's own dtype
    <work>/events.jsonl   Phase; at the end Finished or Failed

What came of it is compared with base and adapter side by side on fixed prompts.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

from finetune.engines.base import RESULT, Finished, Phase, Teller, TrainSpec
from finetune.engines.failures import failure
from finetune.engines.process import choose_device, end_with_parent
from finetune.engines.telling import FileTeller

ASKED = (
    "What is the capital of France?",
    "Count to five.",
    "합계는 얼마입니까?",
    '{"name": "Mina Kim", "age": 42}',
)
TEXTS = ("The harbour lies in the south of the city, and", "def add(a, b):\n    return")


def main(arguments: list[str]) -> int:
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    spec = TrainSpec.read(Path(arguments[0]))
    teller = FileTeller(spec.work)
    try:
        choose_device(str(spec.config.device), alone=True)
        merge(spec, teller)
    # Whatever it is, whoever started this process must be told.
    except Exception as error:
        teller.tell(failure(error, spec))
        return 1
    return 0


def merge(spec: TrainSpec, teller: Teller) -> None:
    """Raises TrainingFailed, EngineUnavailable."""
    # Here, because they import torch and what stands on it.
    language = importlib.import_module("finetune.engines.language")
    parity = importlib.import_module("finetune.engines.parity")
    result = importlib.import_module("finetune.engines.result")
    peft = importlib.import_module("peft")
    transformers = importlib.import_module("transformers")
    teller.tell(Phase(name="loading"))
    tokenizer = language.tokenizer_of(spec)
    device = language.place_of(language.config_of(spec)).device
    model = transformers.AutoModelForCausalLM.from_pretrained(spec.base, dtype="auto")
    kind = model.dtype
    place = language.Place(device, str(kind).removeprefix("torch."))
    both = peft.PeftModel.from_pretrained(model.to(place.device), spec.begin_with).eval()
    prompts = _prompts(tokenizer, parity)
    before = parity.scores(both, prompts, tokenizer)
    teller.tell(Phase(name="saving"))
    # In float32, and rounded once at the end.
    merged = both.float().merge_and_unload().to(kind)
    base = language.Base(model=merged, tokenizer=tokenizer, root=spec.base, place=place)
    facts = result.save(spec.work / RESULT, merged, base)
    del both, merged, model
    base.model = None
    teller.tell(Phase(name="checking"))
    found = parity.check(spec, spec.work / RESULT, base, prompts, before)
    teller.tell(Finished(step=0, trained_tokens=0, parity=found, facts=facts))


def _prompts(tokenizer: Any, parity: Any) -> list[Any]:
    """Questions where there is a chat template, and texts."""
    prompts = [parity.Prompt(tokenizer(text)["input_ids"]) for text in TEXTS]
    if tokenizer.chat_template:
        for text in ASKED:
            asked = [{"role": "user", "content": text}]
            rendered = tokenizer.apply_chat_template(
                asked, tokenize=False, add_generation_prompt=True
            )
            ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
            prompts.append(parity.Prompt(ids, asked))
    return prompts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
