"""transformers' Trainer with a network that learns by CTC, and its error rate on lines it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.engines.callback import TellingCallback, diverged
from finetune.engines.recogniser.batches import WidthSampler
from finetune.engines.recogniser.characters import BLANK, Alphabet
from finetune.engines.recogniser.network import Model
from ocr.engines.torch_library import import_torch
from ocr.scoring import count

torch = import_torch()
# Not by `from`: the library must come after torch.
import transformers  # noqa: E402

# Beside the weights in each checkpoint: what its classes stand for.
ALPHABET = "characters.json"
# Among tries of one CER that of the least loss is the best.
LOSS_COUNTS = 1e-6


class Learner(torch.nn.Module):
    """The network with its loss: for a line that of a character, and of lines their mean."""

    def __init__(self, network: Model) -> None:
        super().__init__()
        self.network = network
        self._loss = torch.nn.CTCLoss(blank=BLANK, zero_infinity=True)

    def forward(
        self,
        lines: torch.Tensor,
        targets: torch.Tensor,
        lengths: torch.Tensor,
        texts: Sequence[str] = (),
    ) -> dict[str, torch.Tensor]:
        scores = self.network(lines)
        # All steps count, those over the filling too: there the network has to say nothing.
        steps = torch.full((len(lines),), scores.shape[1], dtype=torch.long)
        likely = scores.float().log_softmax(2).transpose(0, 1)
        return {"loss": self._loss(likely, targets, steps, lengths), "scores": scores}


class CtcTrainer(transformers.Trainer):
    """Batches by width, and `eval_cer` beside `eval_loss`.

    CER is counted over all lines together; case counts, and white space between words.
    """

    def __init__(self, *, alphabet: Alphabet, widths: Any, **options: Any) -> None:
        super().__init__(**options)
        self._alphabet, self._widths = alphabet, widths
        self._errors = self._characters = 0
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> WidthSampler:
        return WidthSampler(self._widths, batch=self.args.train_batch_size, seed=self.args.seed)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss = super().training_step(*given, **named)
        if not torch.isfinite(loss):
            raise diverged(self.state.global_step + 1, loss.item(), self.args.learning_rate)
        return loss

    def evaluation_loop(self, *given: Any, **named: Any) -> Any:
        self._errors = self._characters = 0
        found = super().evaluation_loop(*given, **named)
        sums = torch.tensor([self._errors, self._characters], device=self.args.device)
        errors, characters = self.accelerator.reduce(sums, "sum").tolist()
        found.metrics["eval_cer"] = errors / max(characters, 1)
        return found

    def prediction_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *given: Any, **named: Any
    ) -> tuple[torch.Tensor, None, None]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            found = model(**inputs)
        for text, steps in zip(inputs["texts"], found["scores"].argmax(2).tolist(), strict=True):
            counted = count(text, self._alphabet.decode(steps), casefold=False)
            self._errors += counted.errors
            self._characters += counted.characters
        return found["loss"].detach(), None, None

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            written = json.dumps(self._alphabet.characters, ensure_ascii=False)
            (folder / ALPHABET).write_text(written, encoding="utf-8")


class LinesCallback(TellingCallback):
    """The checkpoint with the least CER is the best; pace is told in rows."""

    measure = "eval_cer"
    _rows_a_step = 0
    _step = 0

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **named: Any
    ) -> None:
        # CER stays at 1 until the first letters are found; the loss goes down before.
        measured = metrics["eval_cer"] + LOSS_COUNTS * metrics["eval_loss"]
        super().on_evaluate(args, state, control, {self.measure: measured}, **named)

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        self._rows_a_step = (
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        )
        super().on_train_begin(args, state, control, **named)

    def _clock(self, state: Any) -> None:
        self._step = state.global_step
        super()._clock(state)

    def _pace(self, state: Any) -> dict[str, float]:
        rows = (state.global_step - self._step) * self._rows_a_step
        seconds = time.monotonic() - self._since
        found = super()._pace(state)
        del found["trained_tokens"]
        if rows and seconds > 0:
            found["rows_per_second"] = rows / seconds
        return found
