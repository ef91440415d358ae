"""Users and groups; nobody can give more than they have."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from mlops import display
from mlops.models import User

admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(BaseUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "full_name", "email", "roles", "state", "last_seen")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    add_fieldsets = ((None, {"fields": ("username", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    compressed_fields = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only a superuser makes superusers or hands out single permissions."""
        fields = tuple(super().get_readonly_fields(request, obj))
        if request.user.is_superuser:
            return fields
        return (*fields, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without deletion in bulk: it would take everybody's documents along in one click."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @column(description="Name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or display.NOTHING

    @column(description="Roles")
    def roles(self, user: User) -> SafeString | str:
        names = [group.name for group in user.groups.all()]
        labels = [display.label(name, "info") for name in names]
        if user.is_superuser:
            labels.insert(0, display.label("superuser", "primary"))
        return SafeString(" ".join(labels)) if labels else display.NOTHING

    @column(description="State", ordering="is_active")
    def state(self, user: User) -> SafeString:
        return display.label("active", "success") if user.is_active else display.label("disabled")

    @column(description="Last login", ordering="last_login")
    def last_seen(self, user: User) -> str:
        return display.moment(user.last_login)


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ModelAdmin):
    """The roles: `mlops.roles` writes what each may do after every migration."""

    list_display = ("name", "members")
    filter_horizontal = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(member_count=Count("user"))

    @column(description="Members", ordering="member_count")
    def members(self, group: Group) -> int:
        return group.member_count


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    """Superusers are changed by superusers alone, or an administrator could become one."""
    return request.user.is_superuser or not (isinstance(user, User) and user.is_superuser)
