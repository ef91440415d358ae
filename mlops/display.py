"""How jobs and numbers are shown in the console: labels, bars, durations."""

from __future__ import annotations

from datetime import datetime

from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mlops.models import Job

STATUS_VARIANTS = {
    Job.Status.RUNNING: "info",
    Job.Status.SUCCEEDED: "success",
    Job.Status.FAILED: "danger",
    Job.Status.CANCELLED: "warning",
}
NOTHING = "-"


def label(text: str, variant: str = "") -> SafeString:
    html = render_to_string("unfold/helpers/label.html", {"text": text, "type": variant})
    return SafeString(html.strip())


def status_label(job: Job) -> SafeString:
    if job.cancel_requested and not job.finished:
        return label("stopping", "warning")
    if job.held and not job.finished:
        return label("paused" if job.status == job.Status.QUEUED else "pausing", "warning")
    return label(job.get_status_display(), STATUS_VARIANTS.get(job.status, ""))


def progress_bar(job: Job) -> SafeString:
    """Units of work done, of how many; a <progress>, so that it needs no inline style."""
    done, total = job.progress_done, job.progress_total
    return format_html(
        '<span class="job-progress" data-status="{}"><progress max="{}" value="{}" '
        'aria-label="Progress"></progress><span>{} / {}</span></span>',
        job.status,
        total or 1,
        min(done, total or 1),
        done,
        total,
    )


def live(job: Job, cell: str, html: str, source: str) -> SafeString:
    """A cell that jobs.js keeps up to date from `source` for as long as the job has not ended."""
    return format_html(
        '<span class="live-cell" data-job="{}" data-cell="{}"{}>{}</span>',
        job.pk,
        cell,
        "" if job.finished else format_html(' data-source="{}"', source),
        html,
    )


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def job_duration(job: Job) -> str:
    """From the first start to the end, or until now."""
    if job.started_at and not job.finished:
        return duration((timezone.now() - job.started_at).total_seconds())
    return duration(job.seconds)


def moment(value: datetime | None) -> SafeString | str:
    """A point in time in the installation's time zone, to the minute."""
    if value is None:
        return NOTHING
    local = timezone.localtime(value)
    return format_html(
        '<time class="nowrap" datetime="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        local.strftime("%Y-%m-%d %H:%M"),
    )


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}".replace("%", " %")


def confidence(value: float | None, threshold: float) -> SafeString | str:
    if value is None:
        return NOTHING
    return format_html(
        '<span class="confidence" data-level="{}">{}</span>',
        confidence_level(value, threshold),
        percent(value),
    )


def confidence_level(value: float, threshold: float) -> str:
    """low below the threshold, medium up to halfway from there to certainty, else high."""
    if value < threshold:
        return "low"
    return "medium" if value < (1 + threshold) / 2 else "high"


def link(url: str, text: str, *, new_tab: bool = False) -> SafeString:
    target = SafeString(' target="_blank" rel="noopener"') if new_tab else ""
    return format_html('<a class="console-link" href="{}"{}>{}</a>', url, target, text)


def mlflow_link(job: Job) -> SafeString | str:
    if job.mlflow_run_url:
        return link(job.mlflow_run_url, "open run", new_tab=True)
    return "" if job.tracking in (job.Tracking.NONE, job.Tracking.LOGGED) else job.tracking


def job_url(job: Job) -> str | None:
    """The console's page of the job, that of its own kind if there is one."""
    for model in (type(job), Job):
        try:
            return reverse(
                f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[job.pk]
            )
        except NoReverseMatch:
            continue
    return None
