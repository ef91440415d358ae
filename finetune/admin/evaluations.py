"""Evaluations in the console: sides beside each other, and their rows, the worst first."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from finetune.admin.deletable import DeletableJobs
from finetune.admin.started import StartedByForm
from finetune.content.facts import SPLITS
from finetune.evaluation.browsing import ORDERS, ComparedRow, chosen, rows_compared, rows_ordered
from finetune.evaluation.chart import differences_table, fields_table, figures_chart
from finetune.evaluation.metrics import METRICS, difference_shown, metric_of, shown
from finetune.models import DatasetVersion, Evaluation
from finetune.services.deletion import ended_check, evaluation_delete
from finetune.services.evaluations import better_side, evaluation_promote, evaluation_submit
from mlops import display
from mlops.exceptions import ApplicationError
from mlops.models import Job

ROWS = 20
# Of a row's texts so much is shown; the API has all.
LONGEST = 2000
ORDER_NAMES = dict(
    zip(
        ORDERS,
        ("worst first", "most apart", "most gained", "most lost", "as they lie"),
        strict=True,
    )
)


class EvaluationForm(forms.Form):
    models = forms.CharField(
        widget=UnfoldAdminTextInputWidget,
        help_text="One or more, with commas between: language models by name, versions as "
        "name@number, or ocr:engine for lines of OCR.",
    )
    dataset_version = forms.ModelChoiceField(
        DatasetVersion.objects.none(), widget=UnfoldAdminSelectWidget, label="Dataset"
    )
    split = forms.ChoiceField(
        choices=[(name, name) for name in SPLITS], initial="test", widget=UnfoldAdminSelectWidget
    )
    rows = forms.IntegerField(
        initial=1000,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="At most; the same ones each time. 0: all of the split.",
    )
    max_tokens = forms.IntegerField(
        initial=256,
        min_value=1,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Longest answer, tokens",
    )

    def __init__(self, *given: Any, request: HttpRequest, **options: Any) -> None:
        super().__init__(*given, **options)
        # Those of which nothing is for training too: rows with errors are never among the rows.
        versions = DatasetVersion.objects.visible_to(request.user)
        self.fields["dataset_version"].queryset = (
            versions.select_related("dataset").defer("report", "pins").order_by("-created_at")
        )


@admin.register(Evaluation)
class EvaluationAdmin(StartedByForm, DeletableJobs):
    start_form = EvaluationForm
    start_title = "Evaluate models"
    start_template = "finetune/evaluation_new.html"
    list_display = (
        *("title", "status_label", "progress", "verdict_of", "duration", "owner", "created"),
        "mlflow",
    )
    list_filter = ("status", "split", "created_at", "owner")
    search_fields = ("name", "id", "error", "dataset_label", "owner__username")
    change_form_template = "finetune/evaluation.html"
    change_list_template = "finetune/evaluation_change_list.html"

    class Media:
        css: ClassVar = {
            "all": ["ocr/console.css", "finetune/dataset.css", "finetune/evaluation.css"]
        }

    @column(description="Evaluation", ordering="name")
    def title(self, job: Evaluation) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}, {2}</span>',
            *(job.name, job.dataset_label, job.split),
        )

    @column(description="Better")
    def verdict_of(self, job: Evaluation) -> str:
        place = better_side(job) if job.result else None
        return display.NOTHING if place is None else job.result["sides"][place]["label"]

    def get_fieldsets(self, request: HttpRequest, obj: Evaluation | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("title", "status_label"),
                        ("progress", "duration"),
                        ("created", "mlflow"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {"classes": ("collapse",), "fields": (("owner", "worker"), ("started", "ended"))},
            ),
        ]

    # -- pages --------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/rows/", view(self.rows_view), name="finetune_evaluation_rows"),
            path("<uuid:pk>/promote/", view(self.promote_view), name="finetune_evaluation_promote"),
            *super().get_urls(),
        ]

    # -- a new one ----------------------------------------------------------------------------

    def start_initial(self, request: HttpRequest) -> dict[str, Any]:
        given = request.GET
        return {name: given[name] for name in ("models", "dataset_version") if name in given}

    def start(self, request: HttpRequest, given: dict[str, Any]) -> Evaluation:
        given = dict(given)
        names = [name.strip() for name in given.pop("models").split(",") if name.strip()]
        return evaluation_submit(owner=request.user, models=names, **given)

    # -- delete -------------------------------------------------------------------------------

    def check_deletable(self, job: Job) -> None:
        ended_check(job)

    def delete(self, job: Job) -> None:
        evaluation_delete(evaluation=job)

    # -- figures ------------------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        job = self.get_object(request, object_id) if object_id else None
        extra = self._figures(job) if job and job.result else {}
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    def _figures(self, job: Evaluation) -> dict[str, Any]:
        result, better = job.result, better_side(job)
        sides = list(job.sides.select_related("version__language_model"))
        return {
            "result": result,
            "figures": figures_chart(result, job.metrics),
            "differences": differences_table(result, job.metrics),
            "fields": fields_table(result),
            "sides": [
                {
                    "position": side.position,
                    "label": side.label,
                    "colour": side.position % 8,
                    "errors": result["sides"][side.position]["errors"],
                    "better": side.position == better,
                    "may_promote": side.version is not None
                    and side.version.language_model is not None,
                }
                for side in sides
            ],
            "rows_url": reverse("admin:finetune_evaluation_rows", args=[job.pk]),
            "promote_url": reverse("admin:finetune_evaluation_promote", args=[job.pk]),
        }

    def promote_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """The button beside a side."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("finetune.change_modelversion"):
            raise PermissionDenied
        job = get_object_or_404(self.get_queryset(request), pk=pk)
        text = request.POST.get("position", "")
        try:
            alias = evaluation_promote(
                evaluation=job, position=int(text) if text.isdecimal() else None
            )
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            target = alias.targets.select_related("model").first()
            done = f"Requests to '{alias.name}' are answered by {target.model} from now on."
            self.message_user(request, done, messages.SUCCESS)
        return redirect("admin:finetune_evaluation_change", pk)

    # -- rows ---------------------------------------------------------------------------------

    def rows_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        job = get_object_or_404(self.get_queryset(request), pk=pk)
        given = {
            name: request.GET[name] for name in ("metric", "order", "a", "b") if name in request.GET
        }
        try:
            look = chosen(job, given)
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect("admin:finetune_evaluation_change", pk)
        sheet = Paginator(rows_ordered(job, look), ROWS).get_page(request.GET.get("p"))
        pages = sheet.paginator.get_elided_page_range(sheet.number, on_each_side=2, on_ends=1)
        labels = [side.label for side in job.sides.all()]
        rows = rows_compared(job, look, list(sheet.object_list))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Rows of {job.name}",
            "opts": self.opts,
            "media": self.media,
            "original": job,
            "rows": [self._row(job, row, look.metric) for row in rows],
            "sheet": sheet,
            "pages": [page if isinstance(page, int) else None for page in pages],
            "query": f"{urlencode(given)}&" if given else "",
            "look": look,
            "labels": list(enumerate(labels)),
            "metrics": [(name, METRICS[name].title) for name in job.metrics],
            "orders": [
                (name, text)
                for name, text in ORDER_NAMES.items()
                if len(labels) > 1 or name in ("worst", "number")
            ],
            "metric_title": metric_of(look.metric).title,
        }
        return render(request, "finetune/evaluation_rows.html", context)

    def _row(self, job: Evaluation, row: ComparedRow, metric: str) -> dict[str, Any]:
        image = ""
        if job.dataset_version and job.dataset_version.dataset.kind == "ocr":
            place = [job.dataset_version_id, row.number]
            image = reverse("admin:finetune_datasetversion_image", args=place)
        return {
            "number": row.number,
            "image": image,
            "prompt": row.prompt[-LONGEST:],
            "truth": row.truth[:LONGEST],
            "difference": difference_shown(metric, row.difference)
            if row.difference is not None and len(row.answers) > 1
            else "",
            "answers": [
                {
                    "label": one.label,
                    "colour": place % 8,
                    "output": one.output[:LONGEST],
                    "error": one.error,
                    "score": shown(metric, one.score),
                    "same": one.output.strip() == row.truth.strip(),
                }
                for place, one in enumerate(row.answers)
            ],
        }
