"""The groups and what each may do; written to the database after every migrate."""

from __future__ import annotations

from typing import Any

# One's own, unless one sees everything.
WEBHOOKS = [
    "mlops.add_webhook",
    "mlops.view_webhook",
    "mlops.change_webhook",
    "mlops.delete_webhook",
    "mlops.view_webhookdelivery",
]

# To try models, and to run batches with them; one's own, unless one sees everything.
MODELS = [
    "llm.add_generationjob",
    "llm.view_generationjob",
    "llm.change_generationjob",
    "llm.view_llmbatch",
    "llm.add_llmbatch",
    "llm.change_llmbatch",
    "llm.view_storedfile",
    "llm.add_storedfile",
    "llm.delete_storedfile",
    "llm.view_usage",
]

ROLES: dict[str, list[str]] = {
    # Runs the platform: everything but the rights of other users.
    "operator": [
        "mlops.view_all",
        "mlops.view_job",
        "mlops.change_job",
        "mlops.delete_job",
        "mlops.view_apikey",
        "mlops.view_user",
        "mlops.view_queuepulse",
        *WEBHOOKS,
        "ocr.*",
        "llm.*",
        "finetune.*",
    ],
    # Uploads and reads documents in the console, and corrects what was read in anybody's.
    "annotator": [
        "ocr.add_document",
        "ocr.view_document",
        "ocr.delete_document",
        "ocr.add_ocrjob",
        "ocr.view_ocrjob",
        "ocr.change_ocrjob",
        "ocr.view_ocrbatch",
        "ocr.change_ocrbatch",
        *WEBHOOKS,
        "ocr.view_pageresult",
        "ocr.view_pagereview",
        "ocr.change_pagereview",
        "ocr.review_any",
        "ocr.view_correction",
        "ocr.view_pagescore",
        *MODELS,
        "llm.view_search",
        "llm.add_textfix",
        "llm.view_textfix",
        "llm.change_textfix",
        "llm.add_extractionjob",
        "llm.view_extractionjob",
        "llm.change_extractionjob",
        "llm.view_extractionbatch",
        "llm.change_extractionbatch",
        "llm.view_extractiontemplate",
        "finetune.view_dataset",
        "finetune.view_datasetversion",
        "finetune.view_datasetimport",
        "finetune.view_trainingjob",
        "finetune.view_modelversion",
        "finetune.view_evaluation",
        "finetune.view_sweep",
        "finetune.view_versionmerge",
    ],
    # A program with an API key: its own documents and jobs, by the API alone.
    "client": [],
    # Everything, users and keys included.
    "admin": [
        *("mlops.*", "ocr.*", "llm.*", "finetune.*"),
        *("auth.view_group", "django_celery_results.view_taskresult"),
    ],
}


def sync_roles(**_: Any) -> None:
    """Makes the groups and gives each exactly the permissions above. Connected to post_migrate."""
    from django.contrib.auth.models import Group, Permission

    known: dict[str, list[Permission]] = {}
    for permission in Permission.objects.select_related("content_type"):
        app = permission.content_type.app_label
        known.setdefault(f"{app}.*", []).append(permission)
        known[f"{app}.{permission.codename}"] = [permission]
    for role, names in ROLES.items():
        group, _created = Group.objects.get_or_create(name=role)
        group.permissions.set(p for name in names for p in known.get(name, []))
