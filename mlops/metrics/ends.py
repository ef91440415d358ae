"""How jobs end, counted at each end: rows may be deleted, and to count a million takes long."""

from __future__ import annotations

from mlops.metrics.counting import Counter, Histogram

JOBS_ENDED = Counter(
    "mlops_jobs_ended",
    "Jobs that have ended, by how: succeeded, failed or cancelled.",
    ("kind", "queue", "status"),
)
JOB_SECONDS = Histogram(
    "mlops_job_seconds",
    "From a job's first start to its end, waiting between attempts included.",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800),
    ("kind",),
)


def job_ended(
    *, kind: str, queue: str, status: str, seconds: float | None = None, jobs: int = 1
) -> None:
    """Counts the end of a job, or of several alike; `seconds` if it has run."""
    JOBS_ENDED.add(kind, queue, status, amount=jobs)
    if seconds is not None:
        JOB_SECONDS.observe(kind, amount=seconds)
