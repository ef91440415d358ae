"""How the console looks and what its sidebar offers; settings.UNFOLD is this module's dict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

# Dotted paths of what else stands on the dashboard: (user) -> list of mlops.dashboard.Card.
CARD_SOURCES = ["ocr.dashboard.cards", "llm.dashboard.cards", "finetune.dashboard.cards"]


def environment(_request: HttpRequest) -> list[str]:
    """The badge beside the user's menu: which installation this is."""
    from django.conf import settings

    return [settings.ENVIRONMENT, "danger" if settings.PRODUCTION else "info"]


def asset(path: str) -> Callable[[HttpRequest], str]:
    return lambda _request: static(path)


def may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def item(title: str, icon: str, link: str, permission: str = "") -> dict[str, Any]:
    """A line of the sidebar, shown to those who hold `permission`."""
    entry = {"title": title, "icon": icon, "link": reverse_lazy(link)}
    return entry | ({"permission": may(permission)} if permission else {})


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "MLOps console",
    "SITE_HEADER": "MLOps console",
    "SITE_SUBHEADER": "OCR and language models",
    "SITE_SYMBOL": "document_scanner",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": asset("mlops/favicon.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "mlops.console.environment",
    "DASHBOARD_CALLBACK": "mlops.dashboard.dashboard",
    "STYLES": [asset("mlops/console.css")],
    "SCRIPTS": [asset("mlops/jobs.js")],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {"items": [item("Dashboard", "dashboard", "admin:index")]},
            {
                "title": "OCR",
                "separator": True,
                "items": [
                    item(
                        "Documents",
                        "description",
                        "admin:ocr_document_changelist",
                        "ocr.view_document",
                    ),
                    item(
                        "OCR jobs",
                        "document_scanner",
                        "admin:ocr_ocrjob_changelist",
                        "ocr.view_ocrjob",
                    ),
                    item(
                        "OCR batches",
                        "library_books",
                        "admin:ocr_ocrbatch_changelist",
                        "ocr.view_ocrbatch",
                    ),
                    item(
                        "Review",
                        "rate_review",
                        "admin:ocr_pagereview_changelist",
                        "ocr.view_pagereview",
                    ),
                    item(
                        "Search",
                        "manage_search",
                        "admin:llm_search_changelist",
                        "llm.view_search",
                    ),
                    item(
                        "Corrections by models",
                        "spellcheck",
                        "admin:llm_textfix_changelist",
                        "llm.view_textfix",
                    ),
                    item(
                        "Quality",
                        "monitoring",
                        "admin:ocr_pagescore_changelist",
                        "ocr.view_pagescore",
                    ),
                ],
            },
            {
                "title": "Language models",
                "separator": True,
                "items": [
                    item("Playground", "forum", "llm-playground", "llm.add_generationjob"),
                    item(
                        "Models",
                        "network_intelligence",
                        "admin:llm_languagemodel_changelist",
                        "llm.view_languagemodel",
                    ),
                    item(
                        "Aliases",
                        "alt_route",
                        "admin:llm_modelalias_changelist",
                        "llm.view_modelalias",
                    ),
                    item(
                        "Requests",
                        "sms",
                        "admin:llm_generationjob_changelist",
                        "llm.view_generationjob",
                    ),
                    item(
                        "Extractions",
                        "fact_check",
                        "admin:llm_extractionjob_changelist",
                        "llm.view_extractionjob",
                    ),
                    item(
                        "Extraction batches",
                        "dynamic_feed",
                        "admin:llm_extractionbatch_changelist",
                        "llm.view_extractionbatch",
                    ),
                    item(
                        "Templates",
                        "data_object",
                        "admin:llm_extractiontemplate_changelist",
                        "llm.view_extractiontemplate",
                    ),
                    item(
                        "Batches",
                        "stacks",
                        "admin:llm_llmbatch_changelist",
                        "llm.view_llmbatch",
                    ),
                    item(
                        "Files",
                        "folder_open",
                        "admin:llm_storedfile_changelist",
                        "llm.view_storedfile",
                    ),
                    item("Usage", "data_usage", "admin:llm_usage_changelist", "llm.view_usage"),
                ],
            },
            {
                "title": "Fine-tuning",
                "separator": True,
                "items": [
                    item(
                        "Datasets",
                        "dataset",
                        "admin:finetune_dataset_changelist",
                        "finetune.view_dataset",
                    ),
                    item(
                        "Imports",
                        "move_to_inbox",
                        "admin:finetune_datasetimport_changelist",
                        "finetune.view_datasetimport",
                    ),
                    item(
                        "Trainings",
                        "model_training",
                        "admin:finetune_trainingjob_changelist",
                        "finetune.view_trainingjob",
                    ),
                    item(
                        "Model versions",
                        "deployed_code",
                        "admin:finetune_modelversion_changelist",
                        "finetune.view_modelversion",
                    ),
                    item(
                        "Sweeps",
                        "grid_view",
                        "admin:finetune_sweep_changelist",
                        "finetune.view_sweep",
                    ),
                    item(
                        "Merges",
                        "merge",
                        "admin:finetune_versionmerge_changelist",
                        "finetune.view_versionmerge",
                    ),
                    item(
                        "Evaluations",
                        "balance",
                        "admin:finetune_evaluation_changelist",
                        "finetune.view_evaluation",
                    ),
                ],
            },
            {
                "title": "Platform",
                "separator": True,
                "items": [
                    item("All jobs", "list_alt", "admin:mlops_job_changelist", "mlops.view_job"),
                    item(
                        "Queues",
                        "conveyor_belt",
                        "admin:mlops_queuepulse_changelist",
                        "mlops.view_queuepulse",
                    ),
                    item(
                        "Task results",
                        "task_alt",
                        "admin:django_celery_results_taskresult_changelist",
                        "django_celery_results.view_taskresult",
                    ),
                    item(
                        "Webhooks",
                        "webhook",
                        "admin:mlops_webhook_changelist",
                        "mlops.view_webhook",
                    ),
                    item(
                        "Webhook log",
                        "outbox",
                        "admin:mlops_webhookdelivery_changelist",
                        "mlops.view_webhookdelivery",
                    ),
                ],
            },
            {
                "title": "Access",
                "separator": True,
                "items": [
                    item("Users", "person", "admin:mlops_user_changelist", "mlops.view_user"),
                    item("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
                    item("API keys", "key", "admin:mlops_apikey_changelist", "mlops.view_apikey"),
                ],
            },
            {
                "title": "Help",
                "separator": True,
                "items": [item("API documentation", "api", "docs")],
            },
        ],
    },
}
