"""A script as people write it: TRL's SFTTrainer with LoRA, nothing watched, nothing kept.

    python -m benchmarks.peers.trl_plain SETTINGS.json

Prints, at each point of its log, the time, the step and the tokens so far, and at last the most
memory it took.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from ocr.engines.torch_library import import_torch


def main() -> None:
    given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch = import_torch()
    import transformers
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    class Points(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                point = {"at": time.time(), "step": state.global_step, "tokens": logs["num_tokens"]}
                print(json.dumps(point), flush=True)

    torch.manual_seed(given["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(given["base"])
    trainer = SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32),
        args=SFTConfig(
            output_dir=given["folder"],
            max_steps=given["steps"],
            per_device_train_batch_size=given["batch_size"],
            learning_rate=given["learning_rate"],
            lr_scheduler_type="cosine",
            logging_steps=given["log_steps"],
            save_strategy="steps",
            save_steps=given["save_steps"],
            save_total_limit=2,
            seed=given["seed"],
            max_length=given["max_length"],
            packing=given["packing"],
            use_cpu=True,
            # TRL's own defaults are others, and slower on a CPU.
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=load_dataset("json", data_files=given["rows"], split="train"),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(Points())
    trainer.train()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"memory": most}), flush=True)


if __name__ == "__main__":
    main()
