"""Who may change what: one's own, or anybody's with the permission for it."""

from __future__ import annotations

from rest_framework.request import Request

from finetune.models import Evaluation, ModelVersion, Sweep, TrainingJob, VersionMerge
from mlops.exceptions import NotAllowed

Owned = TrainingJob | ModelVersion | Evaluation | Sweep | VersionMerge


def own_or_may(request: Request, row: Owned, permission: str) -> None:
    """Who may look at everybody's rows may change but their own. Raises NotAllowed (403)."""
    user = request.user
    if row.owner_id != user.pk and not user.has_perm(permission):
        raise NotAllowed(
            f"The {row._meta.verbose_name} is somebody else's.",
            code="permission_denied",
            status=403,
        )
