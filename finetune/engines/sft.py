"""Supervised fine-tuning: TRL's SFTTrainer, on rows that are tokens already."""

from __future__ import annotations

from typing import Any

from finetune.engines import language_run
from finetune.engines.base import Teller, TrainSpec
from finetune.engines.configs import LanguageConfig
from finetune.engines.language import Base
from finetune.engines.prepared import ANSWERS
from finetune.engines.trainers import Method, Watched, packs

# After torch, which `language_run` has imported.
from trl import SFTConfig, SFTTrainer  # isort: skip


class AnswersTrainer(Watched, SFTTrainer):
    pass


def build(
    base: Base, arguments: dict[str, Any], config: LanguageConfig, rows: Any, validation: Any
) -> AnswersTrainer:
    packing = packs(config, base.place)
    if packing:
        # No padding at all, then.
        arguments = arguments | {"include_num_input_tokens_seen": "all"}
    return AnswersTrainer(
        model=base.model,
        args=SFTConfig(
            **arguments,
            packing=packing,
            eval_packing=False,
            dataset_kwargs={"skip_prepare_dataset": not packing},
        ),
        train_dataset=rows,
        eval_dataset=validation,
        processing_class=base.tokenizer,
        peft_config=base.peft_config,
    )


# As TRL's own documents and the LoRA papers have them.
METHOD = Method(form=ANSWERS, rates={"full": 2e-5, "adapter": 2e-4}, build=build)


def train(spec: TrainSpec, teller: Teller) -> None:
    language_run.run(spec, teller, METHOD)
