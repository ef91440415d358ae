"""`POST /api/v1/llm/search`, and what is indexed for it."""

from __future__ import annotations

import asyncio
import uuid

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from llm.api.search_serializers import IndexSerializer, SearchSerializer
from llm.retrieval.searching import Found, Plan, find_hits, found_json, plan_search
from llm.retrieval.state import index_state
from llm.services import retrieval as services
from mlops.models import Job
from mlops.watch import watch
from ocr.models import Document


class SearchView(APIView):
    """Checks the caller and the query; the waiting for a worker is done outside of it."""

    @extend_schema(
        operation_id="llm_search", request=SearchSerializer, responses={200: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Passages of your documents. `mode` in the answer is by what was found, `note` why."""
        given = SearchSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response({"plan": plan_search(user=request.user, **given.validated_data)})


@csrf_exempt
async def search(request: HttpRequest) -> HttpResponse:
    """Waits without holding a thread."""
    started = await sync_to_async(SearchView.as_view())(request)
    if started.status_code != 200 or "plan" not in started.data:
        await sync_to_async(started.render)()
        return started
    plan = started.data["plan"]
    found = await search_found(plan)
    body = await sync_to_async(found_json)(plan, found)
    return JsonResponse(body, json_dumps_params={"ensure_ascii": False})


async def search_found(plan: Plan) -> Found:
    """The hits, by meaning too where the plan has it and a worker answers in time."""
    if plan.model is None:
        return await sync_to_async(find_hits)(plan)
    job = await sync_to_async(services.search_submit)(plan=plan)
    try:
        async with asyncio.timeout(settings.LLM_SEARCH_WAIT_SECONDS):
            async for _state in watch().states(job.pk):
                pass
    except TimeoutError:
        pass
    return await sync_to_async(_taken)(plan, job.pk)


def _taken(plan: Plan, pk: uuid.UUID) -> Found:
    job = services.search_take(pk=pk)
    if job is not None and job.status == Job.Status.SUCCEEDED:
        return find_hits(plan, job.found)
    why = job.error if job is not None and job.finished else "No worker has answered in time."
    return find_hits(plan, failure=f"{why} So words were searched for, not meanings.")


class IndexView(APIView):
    """What of your documents is indexed, and the way to have it indexed."""

    @extend_schema(operation_id="llm_index_state", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request) -> Response:
        """How many documents there are, how many are indexed, and how many have vectors."""
        return Response(index_state(Document.objects.visible_to(request.user)))

    @extend_schema(
        operation_id="llm_index", request=IndexSerializer, responses={202: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request) -> Response:
        """Indexes `documents`, or all of yours, in a job: 202 with its id."""
        given = IndexSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        job, count = services.index_submit(user=request.user, **given.validated_data)
        body = {"job": str(job.pk), "documents": count}
        return Response(body, status=status.HTTP_202_ACCEPTED)
