"""`manage.py demo`: the platform at its main job, on documents that it draws itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from mlops import engines, flush
from mlops.bootstrap import ensure_schema, first_user
from mlops.exceptions import EngineUnavailable
from mlops.models import Job, User
from ocr import services
from ocr.models import Document, OcrJob
from ocr.outputs import Target, write_outputs
from ocr.samples import KOREAN_FONT_MISSING, Sample, korean_font, render_samples
from ocr.scoring import cer

# What was rendered must come back as it was, but for a character in fifty.
WORST_CER = 0.02
WAIT_SECONDS = 300
FORMATS = ("txt", "json")


class Command(BaseCommand):
    help = (
        "Draws a few documents, reads them through job, broker, worker and engine, and checks "
        "the text. Exit status 0 only if it came out right. Run again it changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, default=settings.DATA_DIR / "demo")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The demo is for the embedded setting; ENVIRONMENT is production.")
        ensure_schema()
        credentials = first_user()
        owner = User.objects.get(username=credentials.username)
        folder = options["folder"].resolve()
        samples = render_samples(folder / "documents")
        samples, missing = self._readable(samples)
        jobs = {sample.name: self._job(sample, owner) for sample in samples}
        self._read([job for job in jobs.values() if job.status != Job.Status.SUCCEEDED])
        wrong = self._table(samples, jobs, folder / "results")
        self.stdout.write(
            f"\n  Documents  {folder / 'documents'}\n"
            f"  Results    {folder / 'results'}\n"
            f"  Console    make run, then http://127.0.0.1:8010/admin/ "
            f"(user {credentials.username}; password and API key in {credentials.path})\n"
        )
        for reason in missing:
            self.stdout.write(f"  Left out   {reason}\n")
        if wrong:
            raise CommandError(f"The text of {', '.join(wrong)} did not come out right.")

    def _readable(self, samples: list[Sample]) -> tuple[list[Sample], list[str]]:
        """The samples that this machine can draw and read, and why others are left out."""
        if korean_font() is None:
            return samples, [KOREAN_FONT_MISSING]
        try:
            spec = engines.spec("ocr", "tesseract")
            if "ko" in spec.backend_class()(**spec.options).installed:
                return samples, []
        except EngineUnavailable:
            pass
        reason = (
            "the Korean page: no engine here reads Hangul. Run: sudo apt-get install -y "
            "tesseract-ocr tesseract-ocr-kor, then make demo again"
        )
        return [sample for sample in samples if sample.language != "ko"], [reason]

    def _job(self, sample: Sample, owner: User) -> OcrJob:
        """The sample's job: one that an earlier demo finished, or a new one."""
        with sample.path.open("rb") as file:
            document = services.document_reuse_or_create(
                file=file, name=sample.path.name, source=Document.Source.COMMAND, owner=owner
            )
        done = document.jobs.filter(status=Job.Status.SUCCEEDED).first()
        return done or services.ocr_job_submit(document=document, owner=owner)

    def _read(self, jobs: list[OcrJob]) -> None:
        if not jobs:
            return
        deadline = time.monotonic() + WAIT_SECONDS
        with worker() as process, tqdm(total=len(jobs), unit="document", disable=None) as bar:
            while not all(job.finished for job in jobs):
                time.sleep(0.1)
                for job in jobs:
                    job.refresh_from_db()
                bar.update(sum(job.finished for job in jobs) - bar.n)
                if process.poll() is not None or time.monotonic() > deadline:
                    raise CommandError(f"The worker did not finish; its log is {worker_log()}.")
        flush.jobs_track(only=[job.pk for job in jobs])

    def _table(self, samples: list[Sample], jobs: dict[str, OcrJob], out: Path) -> list[str]:
        rows = [("document", "pages", "seconds", "confidence", "CER", "first line")]
        wrong = []
        for sample in samples:
            job = OcrJob.objects.get(pk=jobs[sample.name].pk)
            write_outputs(job, Target(sample.path, out / sample.name), FORMATS)
            results = list(job.results.order_by("page__number"))
            error = cer("\n".join(sample.truth), "\n".join(result.text for result in results))
            if job.status != Job.Status.SUCCEEDED or error > WORST_CER:
                wrong.append(sample.name)
                self.stderr.write(f"{sample.name}: {job.error or f'CER {error:.3f}'}")
            lines = (results[0].text if results else "").splitlines() or ["-"]
            rows.append(
                (
                    sample.path.name,
                    str(len(results)),
                    f"{job.engine_seconds:.2f}",
                    f"{job.mean_confidence or 0:.3f}",
                    f"{error:.4f}",
                    lines[0][:48],
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        self.stdout.write("")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
            self.stdout.write("  " + "  ".join(cells).rstrip())
        return wrong


def worker_log() -> Path:
    return settings.DATA_DIR / "demo-worker.log"


@contextmanager
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A worker for as long as the block lasts, started as anybody would start one."""
    command = [sys.executable, "-m", "celery", "-q", "-A", "mlops", "worker"]
    command += ["-Q", "ocr,default", "-P", "threads", "-c", "1", "-n", f"demo-{os.getpid()}@%h"]
    with worker_log().open("wb") as log:
        process = subprocess.Popen(
            command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
