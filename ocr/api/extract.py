"""`POST /api/ocr/extract/sync`: one image in, its text out, in one call."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework import parsers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlops.api import error_response
from mlops.watch import watch
from ocr import selectors, services
from ocr.api.serializers import ExtractSerializer
from ocr.models import Document, OcrJob


def envelope(*, success: bool, data: Any, message: str) -> dict[str, Any]:
    return {"success": success, "data": data, "message": message}


class ExtractView(APIView):
    """Checks the caller and the upload and queues the job; the waiting is done outside of it."""

    parser_classes = [parsers.MultiPartParser]

    @extend_schema(
        operation_id="ocr_extract_sync",
        request={"multipart/form-data": ExtractSerializer},
        responses={200: dict, 202: dict},
    )
    def post(self, request: Request) -> Response:
        given = ExtractSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = given.validated_data
        job = services.upload_and_submit(
            file=options["image_file"],
            owner=request.user,
            source=Document.Source.API,
            engine=options["engine"],
            language=options["language"],
            min_confidence=options["confidence_threshold"],
            rotate=options["use_angle_cls"],
            force=options["force"],
            # Somebody waits for it.
            priority=0,
        )
        return Response({"job": job.pk, "wait": options["wait"]})

    def handle_exception(self, error: Exception) -> Response:
        response = error_response(error, self.get_exception_handler_context())
        if response is None:
            raise error
        if isinstance(error, APIException) and response.status_code == 401:
            response["WWW-Authenticate"] = self.get_authenticate_header(self.request)
        fault = response.data["error"]
        response.data = envelope(
            success=False, data={"error": fault["code"]}, message=fault["message"]
        )
        response.exception = True
        return response


@csrf_exempt
async def extract_sync(request: HttpRequest) -> HttpResponse:
    """Waits without holding a thread; after the bound answers 202 with the job's address."""
    started = await sync_to_async(ExtractView.as_view())(request)
    if started.status_code != 200 or "job" not in started.data:
        await sync_to_async(started.render)()
        return started
    try:
        async with asyncio.timeout(started.data["wait"]):
            async for _state in watch().states(started.data["job"]):
                pass
    except TimeoutError:
        return await sync_to_async(_still_running)(request, started.data["job"])
    return await sync_to_async(_ended)(started.data["job"])


def _still_running(request: HttpRequest, pk: Any) -> JsonResponse:
    job = OcrJob.objects.get(pk=pk)
    url = request.build_absolute_uri(job.get_absolute_url())
    body = envelope(
        success=True,
        data={"status": job.status, "job": str(pk), "url": url},
        message="The job takes longer than this call waits. Poll its address.",
    )
    return JsonResponse(body, status=202, headers={"Location": url})


def _ended(pk: Any) -> JsonResponse:
    job = OcrJob.objects.filter(pk=pk).select_related("document").first()
    if job is None:
        gone = envelope(success=False, data=None, message="The job was deleted meanwhile.")
        return JsonResponse(gone, status=404)
    data = selectors.extract_data(job)
    succeeded = job.status == job.Status.SUCCEEDED
    body = envelope(
        success=succeeded, data=data, message="ok" if succeeded else job.error or job.status
    )
    return JsonResponse(
        body, status=200 if succeeded else 422, json_dumps_params={"ensure_ascii": False}
    )
