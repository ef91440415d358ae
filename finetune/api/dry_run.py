"""`POST /api/v1/finetune/jobs/dry_run`: what a training would be like, in one call."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import parsers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from finetune.api.training import submit
from finetune.api.training_serializers import DryRunSerializer
from finetune.models import TrainingJob
from mlops.api import error_body
from mlops.api.idempotency import once
from mlops.watch import watch

# Somebody waits for it.
PRIORITY = 0


class DryRunView(APIView):
    """Checks what is asked for and queues the job; the waiting is done outside of it."""

    parser_classes = [parsers.JSONParser]

    @extend_schema(
        operation_id="finetune_jobs_dry_run",
        request=DryRunSerializer,
        responses={200: OpenApiTypes.OBJECT, 202: OpenApiTypes.OBJECT},
    )
    def post(self, request: Request) -> Response:
        """The report: examples with the tokens that carry loss, share cut off, tokens, steps,
        memory, time, disk. Where it takes longer than `wait`, 202 with the job instead."""
        given = DryRunSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = {**given.validated_data, "priority": PRIORITY}
        job, headers = once(request, lambda: submit(request.user, asked, dry_run=True))
        return Response({"job": job.pk, "wait": asked["wait"]}, headers=headers)


@csrf_exempt
async def dry_run(request: HttpRequest) -> HttpResponse:
    """Waits without holding a thread."""
    started = await sync_to_async(DryRunView.as_view())(request)
    if started.status_code != 200:
        await sync_to_async(started.render)()
        return started
    try:
        async with asyncio.timeout(started.data["wait"]):
            async for _state in watch().states(started.data["job"]):
                pass
    except TimeoutError:
        pass
    return await sync_to_async(_answer)(request, started.data["job"])


def _answer(request: HttpRequest, pk: uuid.UUID) -> JsonResponse:
    job = TrainingJob.objects.filter(pk=pk).first()
    if job is None:
        gone = error_body(message="The job was deleted meanwhile.", code="not_found", status=404)
        return JsonResponse(gone, status=404)
    url = request.build_absolute_uri(job.get_absolute_url())
    body: dict[str, Any] = {"job": str(pk), "url": url, "status": job.status}
    if not job.finished:
        return JsonResponse(body, status=202, headers={"Location": url})
    if job.status != job.Status.SUCCEEDED:
        said = job.error or "The dry run was cancelled."
        return JsonResponse(
            error_body(message=said, code=job.error_code or job.status, status=422), status=422
        )
    return JsonResponse(
        body | {"report": job.dry_report}, json_dumps_params={"ensure_ascii": False}
    )


# The API's documentation looks for views of DRF, and this is what one leaves on its function.
dry_run.cls, dry_run.initkwargs = DryRunView, {}
