"""`/api/v1/webhooks/`: who is told when jobs end, and what became of each message."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from mlops import services, webhooks
from mlops.models import Job, Webhook, WebhookDelivery


class WebhookSerializer(serializers.ModelSerializer):
    url = serializers.URLField(max_length=500)
    events = serializers.ListField(
        child=serializers.ChoiceField(webhooks.EVENTS), required=False, help_text="empty for all"
    )
    kinds = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="of jobs; empty for all"
    )

    class Meta:
        model = Webhook
        fields = ["id", "url", "events", "kinds", "enabled", "note", "created_at"]
        read_only_fields = ["note"]

    def validate_url(self, url: str) -> str:
        services.webhook_url_check(url=url)
        return url

    def validate_kinds(self, kinds: list[str]) -> list[str]:
        known = {child.KIND for child in Job.__subclasses__()}
        unknown = sorted(set(kinds) - known)
        if unknown:
            raise serializers.ValidationError(
                f"There is no kind of job '{unknown[0]}'. Choose from: {', '.join(sorted(known))}.",
                code="unknown_kind",
            )
        return kinds


class SecretSerializer(serializers.Serializer):
    secret = serializers.CharField(help_text="whsec_…, as Standard Webhooks has it")


class DeliverySerializer(serializers.ModelSerializer):
    class Meta:
        model = WebhookDelivery
        fields = [
            *("id", "webhook", "job", "url", "event", "status", "attempts", "next_at"),
            *("response_status", "error", "created_at", "ended_at", "body"),
        ]


class WebhookViewSet(viewsets.ModelViewSet):
    """Your webhooks; operators see everybody's. Messages are signed: see `secret`."""

    queryset = Webhook.objects.none()
    serializer_class = WebhookSerializer
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[Webhook]:
        return Webhook.objects.visible_to(self.request.user)

    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        serializer.save(owner=self.request.user)

    def perform_update(self, serializer: serializers.BaseSerializer) -> None:
        serializer.save(note="")

    @extend_schema(request=None, responses=SecretSerializer)
    @action(detail=False)
    def secret(self, request: Request) -> Response:
        """What your messages are signed with."""
        return Response({"secret": webhooks.secret(request.user)})

    @extend_schema(request=None, responses=SecretSerializer)
    @secret.mapping.post
    def rotate_secret(self, request: Request) -> Response:
        """A new secret; for 24 hours messages are signed with the old one, too."""
        services.webhook_secret_rotate(user=request.user)
        return Response({"secret": webhooks.secret(request.user)})


class WebhookDeliveryViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """Each message, how often it was sent, and what was answered."""

    queryset = WebhookDelivery.objects.none()
    serializer_class = DeliverySerializer
    filterset_fields = ["status", "job", "webhook", "event"]

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        return WebhookDelivery.objects.visible_to(self.request.user)

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, **_: Any) -> Response:
        """Sends the message again, with the same id."""
        delivery = self.get_object()
        services.webhook_redeliver(delivery=delivery)
        return Response(self.get_serializer(delivery).data, status=status.HTTP_202_ACCEPTED)
