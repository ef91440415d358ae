"""The options of each method of training as data: what forms, help texts and the API show."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from finetune.engines.configs import CONFIGS, KINDS, choices_of
from finetune.models import TrainingJob

TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
# Groups in the order in which people think of them.
GROUPS = ("Training", "Rows", "Weights", "Network", "Checkpoints", "Machine")


@dataclass(frozen=True, slots=True)
class MethodOption:
    """`type` is integer, number, boolean or string; `choices` are words that may stand instead."""

    name: str
    type: str
    choices: tuple[str, ...]
    default: Any
    least: float | None
    most: float | None
    help: str
    group: str

    @property
    def words_only(self) -> bool:
        """Whether it is one of its choices, and nothing else."""
        return bool(self.choices) and self.type == "string"


def method_options(method: str) -> list[MethodOption]:
    """Those of one method, by group."""
    config = CONFIGS[method]
    hints = get_type_hints(config)
    found = [
        MethodOption(
            name=one.name,
            type=_type(hints[one.name]),
            choices=choices_of(hints[one.name]),
            default=one.default,
            least=one.metadata["least"],
            most=one.metadata["most"],
            help=one.metadata["help"],
            group=one.metadata["group"],
        )
        for one in fields(config)
    ]
    return sorted(found, key=lambda option: GROUPS.index(option.group))


def methods() -> list[dict[str, Any]]:
    """Every method: what it learns from, what it is for, its options."""
    labels = dict(TrainingJob.Method.choices)
    return [
        {
            "name": name,
            "title": labels[name],
            "description": (config.__doc__ or "").strip(),
            "dataset_kinds": list(KINDS[name]),
            "needs_base": name != TrainingJob.Method.OCR,
            "options": method_options(name),
        }
        for name, config in CONFIGS.items()
    ]


def _type(hint: Any) -> str:
    plain = next((part for part in get_args(hint) or (hint,) if part in TYPES), str)
    return TYPES[plain]
