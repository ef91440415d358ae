"""Rows of an evaluation as people look at them: what each side made of one, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import F, FloatField, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Abs, Cast

from finetune.content.reader import ContentReader
from finetune.evaluation.metrics import FIELD, METRICS, metric_of
from finetune.evaluation.scoring import truth_of
from finetune.formats.base import Row
from finetune.formats.kinds import view_of
from finetune.models import Evaluation, EvaluationRow
from mlops.exceptions import ApplicationError

# How rows may come: the worst of a side first, those where two sides differ most, or as they lie.
ORDERS = ("worst", "differ", "gained", "lost", "number")


@dataclass(frozen=True, slots=True)
class SideAnswer:
    """What a side made of the row; `score` is the figure that the rows are ordered by."""

    label: str
    output: str
    error: str
    score: float | None
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """`difference` is that of the second side against the first; None where one has no figure."""

    number: int
    row: Row | None
    prompt: str
    truth: str
    answers: list[SideAnswer]
    difference: float | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is looked at: a figure, two places among the sides, and an order of `ORDERS`."""

    metric: str
    order: str
    a: int
    b: int


def chosen(evaluation: Evaluation, given: dict[str, str]) -> Chosen:
    """Out of a query; sides a and b are the first and the last if not given.

    Raises ApplicationError.
    """
    count = evaluation.sides.count()
    metric = given.get("metric") or (evaluation.metrics[0] if evaluation.metrics else "")
    if metric not in METRICS and not metric.startswith(FIELD):
        raise ApplicationError(
            f"metric: one of {', '.join(evaluation.metrics)}.",
            code="unknown_metric",
            param="metric",
        )
    order = given.get("order") or "worst"
    if order not in ORDERS:
        raise ApplicationError(
            f"order: one of {', '.join(ORDERS)}.", code="unknown_choice", param="order"
        )
    places = []
    for name, default in (("a", 0), ("b", count - 1)):
        text = given.get(name) or str(default)
        if not text.isdecimal() or int(text) >= count:
            raise ApplicationError(
                f"{name}: the place of a side, from 0 to {count - 1}.",
                code="out_of_range",
                param=name,
            )
        places.append(int(text))
    return Chosen(metric, order, *places)


def rows_ordered(evaluation: Evaluation, look: Chosen) -> QuerySet[EvaluationRow]:
    """The second side's rows with `score` and `difference`, in the order that is asked for."""
    sides = {side.position: side for side in evaluation.sides.all()}
    value = Cast(KeyTextTransform(look.metric, "scores"), FloatField())
    other = EvaluationRow.objects.filter(side=sides[look.a], number=OuterRef("number"))
    rows = EvaluationRow.objects.filter(side=sides[look.b]).annotate(
        score=value, before=Subquery(other.annotate(found=value).values("found")[:1])
    )
    rows = rows.annotate(difference=F("score") - F("before"), apart=Abs(F("score") - F("before")))
    low = metric_of(look.metric).better == "low"
    if look.order == "worst":
        first = F("score").desc(nulls_last=True) if low else F("score").asc(nulls_last=True)
    elif look.order == "number":
        first = F("number").asc()
    elif look.order == "differ":
        first = F("apart").desc(nulls_last=True)
    else:
        up = F("difference").desc(nulls_last=True)
        down = F("difference").asc(nulls_last=True)
        first = up if (look.order == "gained") != low else down
    return rows.order_by(first, "number")


def rows_compared(
    evaluation: Evaluation, look: Chosen, rows: list[EvaluationRow]
) -> list[ComparedRow]:
    """The rows with all sides' answers; of a dataset that was deleted the answers alone."""
    numbers = [row.number for row in rows]
    answers: dict[tuple[int, int], EvaluationRow] = {}
    sides = list(evaluation.sides.all())
    for row in EvaluationRow.objects.filter(side__in=sides, number__in=numbers):
        answers[row.side_id, row.number] = row
    version = evaluation.dataset_version
    content = ContentReader(version.sha256).rows(numbers) if version else {}
    kind = version.dataset.kind if version else ""
    compared = []
    for row in rows:
        shown = content.get(row.number)
        found = [
            _answer(side.label, answers[side.pk, row.number], look.metric)
            for side in sides
            if (side.pk, row.number) in answers
        ]
        compared.append(
            ComparedRow(
                number=row.number,
                row=shown,
                prompt="" if shown is None or kind == "ocr" else view_of(kind, shown).prompt,
                truth="" if shown is None else truth_of(kind, shown),
                answers=found,
                difference=row.difference,
            )
        )
    return compared


def _answer(label: str, row: EvaluationRow, metric: str) -> SideAnswer:
    return SideAnswer(label, row.output, row.error, row.scores.get(metric), row.scores)


def as_json(row: ComparedRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "prompt": row.prompt,
        "truth": row.truth,
        "difference": row.difference,
        "answers": [
            {
                "label": one.label,
                "output": one.output,
                "error": one.error,
                "score": one.score,
                "scores": one.scores,
            }
            for one in row.answers
        ],
    }
