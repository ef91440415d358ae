"""Webhooks in the console: who is told of ended jobs, and what became of each message."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminURLInputWidget

from mlops import display, services, webhooks
from mlops.admin.records import ReadOnlyAdmin
from mlops.exceptions import ApplicationError
from mlops.models import Job, Webhook, WebhookDelivery

VARIANTS = {
    WebhookDelivery.Status.DELIVERED: "success",
    WebhookDelivery.Status.FAILED: "danger",
    WebhookDelivery.Status.PENDING: "info",
}


def kind_choices() -> list[tuple[str, str]]:
    return [(child.KIND, child._meta.verbose_name) for child in Job.__subclasses__()]


class WebhookForm(forms.ModelForm):
    url = forms.URLField(
        max_length=500, assume_scheme="https", widget=UnfoldAdminURLInputWidget, label="URL"
    )
    events = forms.MultipleChoiceField(
        choices=[(name, name) for name in webhooks.EVENTS],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="None chosen: all of them.",
    )
    kinds = forms.MultipleChoiceField(
        choices=kind_choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Of jobs. None chosen: all of them.",
    )

    class Meta:
        model = Webhook
        fields = ("url", "events", "kinds", "enabled")

    def clean_url(self) -> str:
        url = self.cleaned_data["url"]
        try:
            services.webhook_url_check(url=url)
        except ApplicationError as error:
            raise forms.ValidationError(error.message) from error
        return url


@admin.register(Webhook)
class WebhookAdmin(ModelAdmin):
    form = WebhookForm
    list_display = ("url", "state", "what", "last", "owner")
    list_filter = ("enabled",)
    search_fields = ("url",)
    list_select_related = ("owner",)
    actions = ("rotate_secret",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        return super().get_queryset(request).visible_to(request.user)

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [name for name in self.list_display if name != "owner" or request.user.sees_all]

    def get_fieldsets(self, request: HttpRequest, obj: Webhook | None = None) -> list[Any]:
        fields = ["url", "events", "kinds", "enabled"]
        # A signing secret is its owner's: whoever knows it can pass for this installation.
        if obj and obj.owner_id == request.user.pk:
            fields.append("secret")
        return [(None, {"fields": [*fields, "note"] if obj and obj.note else fields})]

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> list[str]:
        return ["secret", "note"] if obj else []

    def save_model(
        self, request: HttpRequest, obj: Webhook, form: WebhookForm, change: bool
    ) -> None:
        if not change:
            obj.owner = request.user
        obj.note = ""
        super().save_model(request, obj, form, change)

    @column(description="State", ordering="enabled")
    def state(self, hook: Webhook) -> SafeString:
        if hook.enabled:
            return display.label("on", "success")
        return display.label("off", "danger" if hook.note else "")

    @column(description="Told of")
    def what(self, hook: Webhook) -> str:
        events = ", ".join(name.removeprefix("job.") for name in hook.events) or "every end"
        return events + (f" of {', '.join(hook.kinds)}" if hook.kinds else "")

    @column(description="Last message")
    def last(self, hook: Webhook) -> SafeString | str:
        delivery = hook.deliveries.order_by("-created_at").first()
        return delivery_label(delivery) if delivery else display.NOTHING

    @column(description="Signing secret")
    def secret(self, hook: Webhook) -> SafeString:
        return format_html(
            '<code class="api-key">{0}</code> '
            '<button type="button" class="copy-button" data-copy="{0}">Copy</button>',
            webhooks.secret(hook.owner),
        )

    @admin.action(description="New signing secret (mine)")
    def rotate_secret(self, request: HttpRequest, _hooks: QuerySet[Webhook]) -> None:
        services.webhook_secret_rotate(user=request.user)
        text = "A new secret signs your messages; for 24 hours the old one does so, too."
        self.message_user(request, text, messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("created", "event", "url", "state", "answer", "attempts", "next_attempt")
    list_filter = ("status", "event", "created_at")
    search_fields = ("url", "job__id", "id")
    actions = ("redeliver",)
    fieldsets = (
        (None, {"fields": (("event", "state"), ("url", "answer"), ("job_link", "attempts"))}),
        ("When", {"fields": (("created", "next_attempt", "ended"),)}),
        ("Message", {"fields": ("error", "body_text")}),
    )
    readonly_fields = (
        "state",
        "answer",
        "created",
        "next_attempt",
        "ended",
        "job_link",
        "body_text",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        return super().get_queryset(request).visible_to(request.user).select_related("job")

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("mlops.change_webhook")

    @admin.action(description="Send again", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        count = 0
        for delivery in deliveries:
            try:
                services.webhook_redeliver(delivery=delivery)
            except ApplicationError as error:
                self.message_user(request, f"{delivery}: {error.message}", messages.ERROR)
            else:
                count += 1
        if count:
            self.message_user(request, f"{count} sent again.", messages.SUCCESS)

    @column(description="State", ordering="status")
    def state(self, delivery: WebhookDelivery) -> SafeString:
        return delivery_label(delivery)

    @column(description="Answer")
    def answer(self, delivery: WebhookDelivery) -> str:
        return str(delivery.response_status or display.NOTHING)

    @column(description="Created", ordering="created_at")
    def created(self, delivery: WebhookDelivery) -> str:
        return display.moment(delivery.created_at)

    @column(description="Next attempt")
    def next_attempt(self, delivery: WebhookDelivery) -> str:
        return display.moment(delivery.next_at)

    @column(description="Ended")
    def ended(self, delivery: WebhookDelivery) -> str:
        return display.moment(delivery.ended_at)

    @column(description="Job")
    def job_link(self, delivery: WebhookDelivery) -> SafeString | str:
        if delivery.job is None:
            return display.NOTHING
        own = delivery.job.specific()
        url = display.job_url(own)
        return display.link(url, str(own)) if url else str(own)

    @column(description="Body")
    def body_text(self, delivery: WebhookDelivery) -> SafeString:
        return format_html('<pre class="job-traceback">{}</pre>', delivery.body)


def delivery_label(delivery: WebhookDelivery) -> SafeString:
    return display.label(delivery.get_status_display().lower(), VARIANTS[delivery.status])
