"""Corrects the pages of an OCR job, each stored before the next. For workers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, QuerySet

from llm import held
from llm.ask import adapter_of, ask
from llm.correction.guard import refusal
from llm.correction.prompt import fix_messages, fix_schema, fixed_lines, lines_json
from llm.correction.scoring import page_counts
from llm.correction.windows import corrected
from llm.engines.base import AdapterSource, GenerationRequest, Grammar, LoadedModel, Sampling
from llm.models import PageFix, TextFix
from mlops.exceptions import JobFailed
from mlops.jobs import JobContext
from ocr.models import PageResult, PageReview
from ocr.page_range import parse_page_range

# Tokens of the answer beside those of the lines that it repeats.
SPARE = 48


def run(job: TextFix, context: JobContext) -> None:
    """Pages that have been corrected already are kept. Raises JobFailed without a model."""
    if job.model is None:
        raise JobFailed("The model was deleted meanwhile.", code="model_not_found")
    wanted = fix_pages(job)
    left = wanted.exclude(fixes__fix=job)
    total = wanted.count()
    done = total - left.count()
    context.progress(done, total)
    if done == total:
        return
    asker = _Asker(held.get(job.model), adapter_of(job.model), context)
    for result in left.select_related("page"):
        context.check()
        page = _page_fix(job, result, asker)
        PageFix.objects.bulk_create([page], ignore_conflicts=True)
        TextFix.objects.filter(pk=job.pk).update(
            prompt_tokens=F("prompt_tokens") + asker.prompt_tokens,
            completion_tokens=F("completion_tokens") + asker.completion_tokens,
        )
        asker.prompt_tokens = asker.completion_tokens = 0
        done += 1
        context.progress(done, total)


def fix_pages(job: TextFix) -> QuerySet[PageResult]:
    """The results that the job corrects, in the order of the pages."""
    results = job.ocr_job.results.filter(error="").order_by("page__number")
    if job.page_range:
        numbers = parse_page_range(job.page_range, job.ocr_job.document.page_count)
        results = results.filter(page__number__in=numbers)
    if job.reviewed_only:
        accepted = PageReview.objects.accepted().values("result__page")
        results = results.filter(page__in=accepted)
    return results


@dataclass(slots=True)
class _Asker:
    """Asks the model for a window of lines, and counts what it took."""

    loaded: LoadedModel
    adapter: AdapterSource | None
    context: JobContext
    prompt_tokens: int = field(default=0)
    completion_tokens: int = field(default=0)

    def __call__(self, lines: Sequence[str]) -> list[str] | None:
        messages = fix_messages(lines)
        # What the lines take themselves, half as much again for what becomes longer.
        room = self.loaded.count(lines_json(lines)) * 3 // 2 + SPARE
        taken = self.loaded.count(self.loaded.render(messages))
        if taken + room > self.loaded.context_length:
            return None
        request = GenerationRequest(
            id=f"correct-{uuid.uuid4().hex}",
            messages=messages,
            adapter=self.adapter,
            sampling=Sampling(
                max_tokens=room,
                temperature=0.0,
                grammar=Grammar("json_schema", fix_schema(len(lines))),
            ),
        )
        answer = ask(self.loaded, request, context=self.context)
        self.prompt_tokens += answer.usage.prompt
        self.completion_tokens += answer.usage.completion
        return fixed_lines(answer.text, len(lines))


def _page_fix(job: TextFix, result: PageResult, asker: _Asker) -> PageFix:
    before = [line["text"] for line in result.lines]
    said = [number for number, text in enumerate(before) if text.strip()]
    after = corrected([before[number] for number in said], asker, check=asker.context.check)
    lines: list[dict[str, Any]] = []
    for number, text in zip(said, after, strict=True):
        if text == before[number]:
            continue
        why = (
            "The model gave no answer for it."
            if text is None
            else refusal(before[number], text, max_change=job.max_change)
        )
        lines.append(
            {
                "line": number,
                "before": before[number],
                "after": text or "",
                "refused": why,
                "accepted": "",
            }
        )
    refused = sum(bool(line["refused"]) for line in lines)
    page = PageFix(
        fix=job, result=result, lines=lines, changed=len(lines) - refused, refused=refused
    )
    counts = page_counts(page)
    if counts is not None:
        page.characters, page.errors_before, page.errors_after = counts
    return page
