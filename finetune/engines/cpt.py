"""Continued pre-training: as supervised fine-tuning, on plain text all of which carries loss."""

from __future__ import annotations

from finetune.engines import language_run, sft
from finetune.engines.base import Teller, TrainSpec
from finetune.engines.prepared import ANSWERS
from finetune.engines.trainers import Method

METHOD = Method(form=ANSWERS, rates={"full": 1e-5, "adapter": 1e-4}, build=sft.build)


def train(spec: TrainSpec, teller: Teller) -> None:
    language_run.run(spec, teller, METHOD)
