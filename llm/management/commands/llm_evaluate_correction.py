"""`manage.py llm_evaluate_correction --model M`: whether a model's corrections are any."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from llm.correction.evaluation import Evaluation, evaluated, scored_again
from llm.correction.tasks import correct_text
from llm.models import TextFix
from llm.services.text_fixes import MAX_CHANGE, text_fix_submit
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError
from mlops.models import Job
from ocr.models import OcrJob, PageReview


class Command(BaseCommand):
    help = (
        "Has a model correct, in this process, what was read of the pages that people have "
        "accepted, and says by how much it came nearer to what they accepted (CER before and "
        "after). The corrections are kept as rows like any others; no text is changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", required=True, help="as `GET /v1/models` lists them")
        parser.add_argument("--max-change", type=float, default=MAX_CHANGE, metavar="SHARE")
        parser.add_argument("--limit", type=int, default=50, metavar="N", help="OCR jobs at most")
        parser.add_argument("--json", action="store_true", help="figures as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        jobs = list(_read_jobs(options["limit"]))
        if not jobs:
            raise CommandError(
                "No page has been accepted yet. Review some in the console first.", returncode=1
            )
        fixes = [self._fix(job, options) for job in tqdm(jobs, unit="job", disable=None)]
        scored_again(fixes)
        found = evaluated(fixes)
        if options["json"]:
            self.stdout.write(json.dumps(found.figures() | {"model": options["model"]}))
        else:
            self._say(found)

    def _fix(self, job: OcrJob, options: dict[str, Any]) -> TextFix:
        try:
            fix = text_fix_submit(
                ocr_job=job,
                model=options["model"],
                owner=None,
                max_change=options["max_change"],
                reviewed_only=True,
                send=False,
            )
        except ApplicationError as error:
            raise CommandError(error.message, returncode=2) from error
        correct_text(str(fix.pk))
        fix.refresh_from_db()
        if fix.status != Job.Status.SUCCEEDED:
            raise CommandError(f"{fix}: {fix.error or fix.status}", returncode=1)
        return fix

    def _say(self, found: Evaluation) -> None:
        self.stdout.write(f"Pages                {found.pages:8}")
        self.stdout.write(f"Lines changed        {found.changed:8}")
        self.stdout.write(f"Lines refused        {found.refused:8}")
        self.stdout.write(f"Pages better         {found.better:8}")
        self.stdout.write(f"Pages worse          {found.worse:8}")
        self.stdout.write(f"CER before           {found.cer_before:8.2%}")
        self.stdout.write(f"CER after            {found.cer_after:8.2%}")
        self.stdout.write(found.verdict())


def _read_jobs(limit: int) -> Iterator[OcrJob]:
    """The newest reading of each document with an accepted page."""
    accepted = PageReview.objects.accepted().values("result__page__document")
    jobs = OcrJob.objects.filter(document__in=accepted, results__error="").distinct()
    seen = set()
    for job in jobs.select_related("document").order_by("-created_at"):
        if job.document_id not in seen:
            seen.add(job.document_id)
            yield job
        if len(seen) == limit:
            return
