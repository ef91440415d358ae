"""API keys: made, shown once, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminSelectWidget

from mlops import display
from mlops.models import ApiKey, User

EXPIRIES = [("", "never"), ("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year")]


# Of language models.
LIMITS_HELP = (
    "Empty: as the installation's settings have it (LLM_REQUESTS_PER_MINUTE and so on). 0: none. "
    "What goes beyond is answered 429, with the time to wait."
)
LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day")


class ApiKeyForm(forms.ModelForm):
    expires = forms.ChoiceField(
        choices=EXPIRIES, required=False, widget=UnfoldAdminSelectWidget, label="Expires"
    )

    class Meta:
        model = ApiKey
        fields = ("user", "name", *LIMITS)


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = ("prefix", "name", "user", "state", "created_at", "last_used", "expires_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "user")
    list_select_related = ("user",)
    search_fields = ("token_key", "name", "user__username")
    actions = ("revoke_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys = super().get_queryset(request)
        return keys if request.user.sees_all else keys.filter(user=request.user)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """A revoked key stays as a record."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("mlops.change_apikey")

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        limits = ("Limits of language models", {"fields": LIMITS, "description": LIMITS_HELP})
        if obj is None:
            return [(None, {"fields": ("user", "name", "expires")}), limits]
        names = ("prefix", "name", "user", "state", "created_at", "last_used", "expires_at")
        return [(None, {"fields": names}), limits]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        """A key stays whose it is; what it may use can be changed."""
        if obj is None:
            return []
        return ["prefix", "name", "user", "state", "created_at", "last_used", "expires_at"]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not request.user.is_superuser:
            # A key is as good as a password: a superuser's would make its holder one.
            kwargs["queryset"] = User.objects.filter(is_superuser=False)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        only_save = {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, only_save | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        limits = {name: form.cleaned_data[name] for name in LIMITS}
        if change:
            ApiKey.objects.filter(pk=obj.pk).update(**limits)
            return
        days = form.cleaned_data["expires"]
        made, obj.token = ApiKey.objects.create(
            user=obj.user,
            name=obj.name,
            expiry=timedelta(days=int(days)) if days else None,
            **limits,
        )
        # What follows (the log, the answer) speaks of the row that was made.
        obj.pk, obj.token_key = made.pk, made.token_key

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        text = format_html(
            "The key of {}, shown this once: copy it now. "
            '<code class="api-key">{}</code> '
            '<button type="button" class="copy-button" data-copy="{}">Copy</button>',
            obj.user,
            obj.token,
            obj.token,
        )
        self.message_user(request, text, messages.SUCCESS)
        return redirect("admin:mlops_apikey_changelist")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys:
            key.revoke()
        self.message_user(request, f"{len(keys)} revoked: requests with them are now refused.")

    @column(description="Key", ordering="token_key")
    def prefix(self, key: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", key.token_key)

    @column(description="State")
    def state(self, key: ApiKey) -> SafeString:
        if key.revoked_at:
            return display.label("revoked", "danger")
        if key.expiry and key.expiry < timezone.now():
            return display.label("expired", "warning")
        return display.label("active", "success")

    @column(description="Created", ordering="created")
    def created_at(self, key: ApiKey) -> str:
        return display.moment(key.created)

    @column(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return display.moment(key.last_used_at)

    @column(description="Expires", ordering="expiry")
    def expires_at(self, key: ApiKey) -> str:
        return display.moment(key.expiry) if key.expiry else "never"
