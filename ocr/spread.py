"""One long document read by all free workers at once.

The job is one worker's, who holds its lease and ends it. Others are asked to help by messages,
which are only hints: each page is claimed in the database by whoever reads it next, so that it goes
with no helper as well as with ten, and a helper that is killed leaves a claim that runs out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from mlops import queues
from mlops.jobs import worker_name
from mlops.leases import keeper
from mlops.models import Job
from ocr.models import OcrJob, Page, PageClaim, PageResult
from ocr.page_range import parse_page_range

log = structlog.get_logger(__name__)

HELP_TASK = "ocr.help_pages"
# Last in its queue, and worth nothing once it is old.
HELP_PRIORITY, HELP_EXPIRES = 9, 15
MOST_HELPERS = 16
CALL_AGAIN_SECONDS = 2.0
# As many free pages are looked at at once: another worker may claim the first meanwhile.
LOOK_AHEAD = 8


class SharedPages:
    """The pages of a job, claimed one by one."""

    def __init__(self, job: OcrJob) -> None:
        self.job = job
        self._worker = f"{worker_name()}:{threading.get_ident()}"
        self._called = 0.0

    def unread(self) -> QuerySet[Page]:
        pages = self.job.document.pages.all()
        if self.job.page_range:
            wanted = parse_page_range(self.job.page_range, self.job.document.page_count)
            pages = pages.filter(number__in=wanted)
        read = PageResult.objects.filter(job=self.job, page=OuterRef("pk"))
        return pages.filter(~Exists(read))

    @contextmanager
    def claimed(self) -> Iterator[tuple[int, int] | None]:
        """(number, key) of a page that is now ours alone to read; None if none is free."""
        claim, page = self._next()
        if claim is None or page is None:
            yield None
            return
        with keeper.hold(claim):
            yield page

    def _next(self) -> tuple[PageClaim | None, tuple[int, int] | None]:
        live = PageClaim.objects.filter(job=self.job, page=OuterRef("pk"), until__gte=Now())
        free = self.unread().filter(~Exists(live)).order_by("number")
        for number, pk in free.values_list("number", "pk")[:LOOK_AHEAD]:
            claim = self._claim(pk)
            if claim is not None:
                return claim, (number, pk)
        return None, None

    def _claim(self, page_id: int) -> PageClaim | None:
        ours = {
            "worker": self._worker,
            "until": Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS),
        }
        claims = PageClaim.objects.filter(job=self.job, page=page_id)
        if claims.filter(until__lt=Now()).update(**ours):
            return claims.first()
        try:
            with transaction.atomic():
                return PageClaim.objects.create(job_id=self.job.pk, page_id=page_id, **ours)
        except IntegrityError:
            return None

    def call_helpers(self, pages: int) -> None:
        """Asks free workers to help; again now and then, since they leave when jobs are queued."""
        now = time.monotonic()
        first = not self._called
        if now - self._called < CALL_AGAIN_SECONDS or (not first and others_wait(self.job)):
            return
        self._called = now
        for _ in range(min(pages - 1, MOST_HELPERS) if first else 2):
            if not queues.hint(
                HELP_TASK,
                str(self.job.pk),
                queue=self.job.queue,
                priority=HELP_PRIORITY,
                expires=HELP_EXPIRES,
            ):
                return


def others_wait(job: OcrJob) -> bool:
    """Whether a helper is wanted elsewhere: some job of the same queue has no worker yet."""
    return Job.objects.due().filter(queue=job.queue).exists()
