"""`/v1/batches`: OpenAI's Batch API."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from llm import limits
from llm.api.files import expiry_seconds, file_find
from llm.api.openai_view import OpenAIView, listed, not_found, seconds
from llm.limits import Caller
from llm.models import LlmBatch
from llm.models.batches import BATCH_PREFIX
from llm.services.batches import llm_batch_cancel, llm_batch_submit
from mlops.exceptions import ApplicationError
from mlops.models import ApiKey, User

MOST, DEFAULT = 100, 20


class BatchCreateSerializer(serializers.Serializer):
    """For the API's documentation."""

    input_file_id = serializers.CharField()
    endpoint = serializers.ChoiceField(LlmBatch.Endpoint.values)
    completion_window = serializers.ChoiceField(["24h"])
    metadata = serializers.DictField(child=serializers.CharField(), required=False)


def batch_object(batch: LlmBatch) -> dict[str, Any]:
    state = batch.state
    ended = seconds(batch.finished_at)
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.asked_model or None,
        "errors": _errors(batch, state),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": state,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": seconds(batch.created_at),
        "in_progress_at": seconds(batch.in_progress_at),
        "expires_at": seconds(batch.expires_at),
        "finalizing_at": seconds(batch.finalizing_at),
        "completed_at": ended if state == "completed" else None,
        "failed_at": ended if state == "failed" else None,
        "expired_at": ended if state == "expired" else None,
        "cancelling_at": seconds(batch.cancelling_at),
        "cancelled_at": ended if state == "cancelled" else None,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": batch.metadata,
    }


def _errors(batch: LlmBatch, state: str) -> dict[str, Any] | None:
    found = batch.line_errors
    if not found and state == "failed":
        found = [{"code": batch.error_code, "message": batch.error, "line": None, "param": None}]
    return {"object": "list", "data": found} if found else None


def batch_find(user: User, public_id: str, *, param: str = "batch_id") -> LlmBatch:
    """Raises ApplicationError (404) for one that isn't there, or isn't the user's."""
    try:
        pk = uuid.UUID(public_id.removeprefix(BATCH_PREFIX))
    except ValueError:
        raise not_found("batch", public_id, param=param) from None
    batch = LlmBatch.objects.visible_to(user).filter(pk=pk).first()
    if batch is None:
        raise not_found("batch", public_id, param=param)
    return batch


class BatchesView(OpenAIView):
    """Your batches; operators see everybody's."""

    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="batches_create",
        request=BatchCreateSerializer,
        responses=OpenApiTypes.OBJECT,
    )
    def post(self, request: Request) -> Response:
        given = request.data if isinstance(request.data, dict) else {}
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(given.get(name), str):
                raise ApplicationError(
                    f"Missing required parameter: '{name}'.", code="missing_parameter", param=name
                )
        key = request.auth if isinstance(request.auth, ApiKey) else None
        headers = limits.admit(Caller(request.user, key))
        batch = llm_batch_submit(
            owner=request.user,
            input_file=file_find(request.user, given["input_file_id"], param="input_file_id"),
            endpoint=given["endpoint"],
            completion_window=given["completion_window"],
            metadata=given.get("metadata"),
            output_expires_seconds=_expiry(given.get("output_expires_after")),
            api_key=key,
        )
        return Response(batch_object(batch), headers=headers)

    @extend_schema(operation_id="batches_list", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        return listed(
            request,
            LlmBatch.objects.visible_to(request.user),
            batch_object,
            find=lambda pk: batch_find(request.user, pk, param="after"),
            most=MOST,
            default=DEFAULT,
        )


class BatchView(OpenAIView):
    @extend_schema(operation_id="batches_retrieve", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, pk: str) -> Response:
        return Response(batch_object(batch_find(request.user, pk)))


class BatchCancelView(OpenAIView):
    @extend_schema(operation_id="batches_cancel", request=None, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request, pk: str) -> Response:
        batch = batch_find(request.user, pk)
        llm_batch_cancel(batch=batch)
        return Response(batch_object(batch))


def _expiry(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("anchor") != "created_at":
        raise ApplicationError(
            "output_expires_after: the anchor is created_at.",
            code="invalid_value",
            param="output_expires_after",
        )
    return expiry_seconds(given.get("seconds"), param="output_expires_after")
