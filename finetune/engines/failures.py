"""What went wrong in a trainer, in words that say what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import traceback
from pathlib import Path

from finetune.engines.base import CHECKPOINTS, PEER_LOST, Failed, TrainingFailed, TrainSpec
from finetune.engines.checkpoints import COMPLETE
from finetune.engines.configs import LanguageConfig, TrainingConfig
from finetune.engines.memory import in_words
from mlops.exceptions import ApplicationError, JobFailed

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Said by torch and safetensors, whose errors carry no number.
_FULL_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|PytorchStreamWriter failed|"
    rf"os error ({'|'.join(map(str, FULL))})\b"
)
_MEMORY_TEXT = re.compile(
    r"can't allocate memory|Cannot allocate memory|CUDA out of memory|CUDNN_STATUS_ALLOC_FAILED|"
    r"CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc"
)


def failure(error: Exception, spec: TrainSpec) -> Failed:
    """The event that tells of `error`, as whoever started the trainer will show it."""
    if isinstance(error, TrainingFailed | JobFailed | ApplicationError):
        return Failed(code=error.code, message=error.message)
    if disk_full(error):
        return Failed(code="disk_full", message=_disk_full(spec.work))
    if _out_of_memory(error):
        return Failed(code="out_of_memory", message=_lower(spec), traceback=_traced(error))
    if _peer_lost(error):
        return Failed(
            code=PEER_LOST,
            message="The connection to another of the training's processes was lost. Its machine "
            f"may be gone, or not reachable from here (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME): "
            f"{error}",
            traceback=_traced(error),
        )
    return Failed(
        code="crashed", message=f"{type(error).__name__}: {error}", traceback=_traced(error)
    )


def disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    known = isinstance(error, RuntimeError | OSError) or type(error).__name__ == "SafetensorError"
    return known and _FULL_TEXT.search(str(error)) is not None


def checkpoints_clear_torn(work: Path) -> None:
    """Removes checkpoints that were never finished: of no use, and in the way of the last word."""
    for folder in (work / CHECKPOINTS).glob("checkpoint-*"):
        if not (folder / COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_MEMORY_TEXT.search(str(error)))


def _peer_lost(error: BaseException) -> bool:
    """gloo's errors are told from others by their words alone."""
    distributed = any(kind.__name__ == "DistError" for kind in type(error).__mro__)
    return distributed or (isinstance(error, RuntimeError) and "gloo/" in str(error))


def _disk_full(work: Path) -> str:
    checkpoints_clear_torn(work)
    free = shutil.disk_usage(work).free
    return (
        f"The disk is full: {work} has {in_words(free)} left ({free} bytes). Free some, lower "
        "'keep_checkpoints', or raise 'save_steps' so that fewer are written; then start again: "
        "it goes on from the last whole checkpoint."
    )


def _lower(spec: TrainSpec) -> str:
    config = spec.config
    where = "The GPU's memory" if str(config.device).startswith("cuda") else "Memory"
    return (
        f"{where} ran out{_at_hand(config)}. What lowers it, most first: "
        f"{', '.join(_lowering(config))}."
    )


def _at_hand(config: TrainingConfig) -> str:
    if str(config.device).startswith("cuda"):
        return ""
    return f" ({in_words(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} in all)"


def _lowering(config: TrainingConfig) -> list[str]:
    found = []
    if config.batch_size != 1:
        found.append(
            f"'batch_size' (now {config.batch_size}; raise 'gradient_accumulation' as much, and "
            "the result stays the same)"
        )
    if isinstance(config, LanguageConfig):
        found.append(f"'max_length' (now {config.max_length})")
    if not config.gradient_checkpointing:
        found.append("'gradient_checkpointing' (now off; on, it takes a third more time)")
    if isinstance(config, LanguageConfig) and config.adapter != "qlora":
        other = "'lora'" if config.adapter == "full" else "'qlora' on a GPU"
        found.append(f"'adapter' (now '{config.adapter}'; {other} takes less)")
    return found or ["a smaller network"]


def _traced(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-20_000:]
