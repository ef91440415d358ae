"""Memory of the process that reads one long PDF, page by page: it should stay flat.

    .venv/bin/python benchmarks/job_memory.py [--pages 500]

Draws the PDF, reads it as a worker does (job, lease, engine, rows on SQLite), and prints resident
memory in MB along the way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=500)
    pages = parser.parse_args().pages
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "mlops.settings"}
        os.environ |= {"MLFLOW_TRACKING_URI": "none", "LOG_LEVEL": "WARNING"}
        os.environ.pop("DATABASE_URL", None)
        import django

        django.setup()
        from django.core.management import call_command

        from ocr import services
        from ocr.models import OcrJob
        from ocr.samples import multi_page_pdf
        from ocr.tasks import extract_text

        call_command("migrate", verbosity=0)
        path = Path(folder) / "long.pdf"
        multi_page_pdf(path, pages)
        with path.open("rb") as file:
            document = services.document_create(
                file=file, name=path.name, owner=None, source="command"
            )
        job = services.ocr_job_create(document=document, owner=None, language="en", dpi=110)

        def watch() -> None:
            step, due = max(1, pages // 10), 1
            while due <= pages:
                done = OcrJob.objects.values_list("progress_done", flat=True).get(pk=job.pk)
                if done >= due:
                    print(f"page {done:5}   {resident_mb():6.0f} MB")
                    due = (done // step + 1) * step
                time.sleep(0.05)

        threading.Thread(target=watch, daemon=True).start()
        started = time.perf_counter()
        status = extract_text(str(job.pk))["status"]
        seconds = time.perf_counter() - started
        time.sleep(0.2)
        print(f"{status}: {pages} pages in {seconds:.1f} s, {pages / seconds:.1f} pages/s")


if __name__ == "__main__":
    main()
