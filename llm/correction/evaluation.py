"""Figures over many corrected pages whose text people have accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llm.correction.scoring import page_counts
from llm.models import PageFix, TextFix


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Over pages with an accepted text; errors are edits to it, of `characters`."""

    pages: int
    changed: int
    refused: int
    better: int
    worse: int
    characters: int
    errors_before: int
    errors_after: int

    @property
    def cer_before(self) -> float:
        return self.errors_before / self.characters if self.characters else 0.0

    @property
    def cer_after(self) -> float:
        return self.errors_after / self.characters if self.characters else 0.0

    def figures(self) -> dict[str, Any]:
        return asdict(self) | {"cer_before": self.cer_before, "cer_after": self.cer_after}

    def verdict(self) -> str:
        if self.errors_after < self.errors_before:
            return "It comes nearer to what people accepted. LLM_AUTO_CORRECT switches it on."
        if self.errors_after == self.errors_before:
            return "It makes no difference here."
        return "It makes texts worse here: leave it off."


def scored_again(fixes: Sequence[TextFix]) -> None:
    """Measures pages against what is accepted by now."""
    pages = PageFix.objects.filter(fix__in=fixes).select_related("result")
    for page in pages:
        page.characters, page.errors_before, page.errors_after = page_counts(page) or (
            None,
            None,
            None,
        )
        page.save(update_fields=["characters", "errors_before", "errors_after"])


def evaluated(fixes: Sequence[TextFix]) -> Evaluation:
    pages = list(PageFix.objects.filter(fix__in=fixes, characters__isnull=False))
    return Evaluation(
        pages=len(pages),
        changed=sum(page.changed for page in pages),
        refused=sum(page.refused for page in pages),
        better=sum(page.errors_after < page.errors_before for page in pages),
        worse=sum(page.errors_after > page.errors_before for page in pages),
        characters=sum(page.characters for page in pages),
        errors_before=sum(page.errors_before for page in pages),
        errors_after=sum(page.errors_after for page in pages),
    )
