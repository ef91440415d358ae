"""Direct preference optimisation: TRL's DPOTrainer, on pairs that are tokens already."""

from __future__ import annotations

from typing import Any

from finetune.engines import language_run
from finetune.engines.base import Teller, TrainSpec
from finetune.engines.configs import DpoConfig
from finetune.engines.language import Base
from finetune.engines.prepared import PAIRS
from finetune.engines.trainers import Method, Watched

# After torch, which `language_run` has imported.
from trl import DPOConfig as Arguments  # isort: skip
from trl import DPOTrainer  # isort: skip


class PairsTrainer(Watched, DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Nothing: rows are tokens. SFTTrainer has an option for it, this one has none."""
        return dataset


def build(
    base: Base, arguments: dict[str, Any], config: DpoConfig, rows: Any, validation: Any
) -> PairsTrainer:
    return PairsTrainer(
        model=base.model,
        args=Arguments(**arguments, beta=config.beta, loss_type=[config.loss]),
        train_dataset=rows,
        eval_dataset=validation,
        processing_class=base.tokenizer,
        peft_config=base.peft_config,
    )


METHOD = Method(form=PAIRS, rates={"full": 1e-6, "adapter": 1e-5}, build=build, pairs=True)


def train(spec: TrainSpec, teller: Teller) -> None:
    language_run.run(spec, teller, METHOD)
