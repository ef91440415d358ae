"""Jobs that are started by a form of the console, on a page of its own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path

from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import ApplicationError
from mlops.models import Job


class StartedByForm(JobAdminBase):
    """A kind names its form, what its page is called, and how the job is made (`start`)."""

    start_form: type[forms.Form]
    start_title: str
    start_template: str

    def start(self, request: HttpRequest, given: dict[str, Any]) -> Job:
        """Out of the form's data. Raises ApplicationError, shown at the field it names."""
        raise NotImplementedError

    def start_initial(self, request: HttpRequest) -> dict[str, Any]:
        """What the address says already, as links from other pages do."""
        return {}

    def may_start(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.add_{self.opts.model_name}")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.new_view)
        return [path("new/", view, name=self._url_name("new")), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        extra = {"may_add": self.may_start(request)}
        return super().changelist_view(request, extra | (extra_context or {}))

    def new_view(self, request: HttpRequest) -> HttpResponse:
        if not self.may_start(request):
            raise PermissionDenied
        sent = request.method == "POST"
        form = self.start_form(
            request.POST if sent else None, request=request, initial=self.start_initial(request)
        )
        if sent and form.is_valid():
            try:
                job = self.start(request, form.cleaned_data)
            except ApplicationError as error:
                form.add_error(error.param if error.param in form.fields else None, error.message)
            else:
                return redirect(f"admin:{self._url_name('change')}", job.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": self.start_title,
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
        }
        return render(request, self.start_template, context)
