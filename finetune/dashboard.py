"""What training puts on the console's dashboard."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, Q
from django.urls import reverse
from django.utils import timezone

from finetune.models import ModelVersion, TrainingJob
from mlops.dashboard import Card
from mlops.models import Job, User


def cards(user: User) -> list[Card]:
    """Trainings under way, and versions of models that came of them in the last 30 days."""
    if not user.has_perm("finetune.view_trainingjob"):
        return []
    jobs = TrainingJob.objects.visible_to(user).filter(dry_run=False)
    count = jobs.aggregate(
        running=Count("pk", filter=Q(status=Job.Status.RUNNING)),
        queued=Count("pk", filter=Q(status=Job.Status.QUEUED, held=False)),
        paused=Count("pk", filter=Q(status=Job.Status.QUEUED, held=True)),
    )
    waiting = [f"{count['queued']:,} waiting"]
    waiting += [f"{count['paused']:,} paused"] if count["paused"] else []
    since = timezone.now() - timedelta(days=30)
    versions = ModelVersion.objects.visible_to(user).filter(created_at__gte=since)
    made = versions.aggregate(
        all=Count("pk"), unfit=Count("pk", filter=Q(fitness=ModelVersion.Fitness.UNFIT))
    )
    hint = f"{made['unfit']:,} unfit" if made["unfit"] else "in 30 days"
    return [
        Card(
            "Trainings",
            f"{count['running']:,}",
            ", ".join(waiting),
            "model_training",
            reverse("admin:finetune_trainingjob_changelist"),
        ),
        Card(
            "Models trained",
            f"{made['all']:,}",
            hint,
            "deployed_code",
            reverse("admin:finetune_modelversion_changelist"),
            "danger" if made["unfit"] else "",
        ),
    ]
