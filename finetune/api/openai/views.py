"""`/v1/fine_tuning/jobs`: as OpenAI's client calls it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from finetune.api.openai.events import events_page
from finetune.api.openai.objects import KINDS, checkpoint_object, job_object
from finetune.api.openai.requests import request_read
from finetune.api.openai.schema import (
    CheckpointListSerializer,
    EventListSerializer,
    FineTuningJobCreateSerializer,
    FineTuningJobListSerializer,
    FineTuningJobSerializer,
)
from finetune.api.rights import own_or_may
from finetune.models import TrainingJob
from finetune.selectors import training_base_find
from finetune.services import training as services
from finetune.services.fine_tuning import fine_tuning_job_create
from llm.api.files import file_find
from llm.api.openai_view import OpenAIView, listed, not_found
from mlops.api.idempotency import once
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import User

PREFIX = "ftjob-"
MOST_JOBS, DEFAULT_JOBS = 100, 20
MOST_EVENTS, DEFAULT_EVENTS = 1000, 20
MOST_CHECKPOINTS, DEFAULT_CHECKPOINTS = 100, 10
PAGES = [
    OpenApiParameter("after", OpenApiTypes.STR, description="the last id of the page before"),
    OpenApiParameter("limit", OpenApiTypes.INT),
]


def jobs_of(user: User) -> QuerySet[TrainingJob]:
    """What this API can show: methods that OpenAI has, and no dry runs."""
    jobs = TrainingJob.objects.visible_to(user).filter(method__in=KINDS, dry_run=False)
    return jobs.select_related("dataset_import", "validation_import").prefetch_related(
        "versions__language_model"
    )


def job_find(user: User, public_id: str, *, param: str = "fine_tuning_job_id") -> TrainingJob:
    """Raises ApplicationError (404) for one that isn't there, or isn't the user's."""
    job = None
    try:
        pk = uuid.UUID(public_id.removeprefix(PREFIX))
    except ValueError:
        pk = None
    if pk is not None and public_id.startswith(PREFIX):
        job = jobs_of(user).filter(pk=pk).first()
    if job is None:
        raise not_found("fine-tuning job", public_id, param=param)
    return job


class JobsView(OpenAIView):
    """Your fine-tuning jobs; people of the console see everybody's."""

    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="fine_tuning_jobs_create",
        request=FineTuningJobCreateSerializer,
        responses=FineTuningJobSerializer,
    )
    def post(self, request: Request) -> Response:
        """Trains a LoRA adapter on a file of /v1/files, which is validated first."""
        asked = request_read(request.data)
        validation = None
        if asked.validation_file:
            validation = file_find(request.user, asked.validation_file, param="validation_file")
        training = file_find(request.user, asked.training_file, param="training_file")
        job, headers = once(
            request,
            lambda: fine_tuning_job_create(
                owner=request.user,
                base=training_base_find(asked.model, param="model"),
                method=asked.method,
                training_file=training,
                validation_file=validation,
                options=asked.options,
                suffix=asked.suffix,
                request=asked.kept,
            ),
        )
        return Response(job_object(jobs_of(request.user).get(pk=job.pk)), headers=headers)

    @extend_schema(
        operation_id="fine_tuning_jobs_list",
        parameters=[
            *PAGES,
            OpenApiParameter(
                "metadata[key]",
                OpenApiTypes.STR,
                description="only jobs with this value under `key`; `metadata=null`: without any",
            ),
        ],
        responses=FineTuningJobListSerializer,
    )
    def get(self, request: Request) -> Response:
        return listed(
            request,
            _with_metadata(jobs_of(request.user), request),
            job_object,
            find=lambda pk: job_find(request.user, pk, param="after"),
            most=MOST_JOBS,
            default=DEFAULT_JOBS,
        )


def _with_metadata(jobs: QuerySet[TrainingJob], request: Request) -> QuerySet[TrainingJob]:
    given = request.query_params
    wanted = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in given.items()
        if name.startswith("metadata[")
    }
    without = given.get("metadata") == "null"
    if not wanted and not without:
        return jobs
    # Kept as text, in which nothing can be looked up.
    rows = jobs.prefetch_related(None).values_list("pk", "request")
    found = ((pk, kept.get("metadata") or {}) for pk, kept in rows.iterator())
    return jobs.filter(
        pk__in=[
            pk for pk, pairs in found if (not pairs if without else wanted.items() <= pairs.items())
        ]
    )


class JobView(OpenAIView):
    @extend_schema(operation_id="fine_tuning_jobs_retrieve", responses=FineTuningJobSerializer)
    def get(self, request: Request, pk: str) -> Response:
        return Response(job_object(job_find(request.user, pk)))


class JobActView(OpenAIView):
    """What is done to a job; each of them a service."""

    service: Callable[..., None]

    def post(self, request: Request, pk: str) -> Response:
        job = job_find(request.user, pk)
        own_or_may(request, job, "finetune.change_trainingjob")
        try:
            type(self).service(job=job)
        except NotAllowed as error:
            raise ApplicationError(error.message, code="invalid_state", status=409) from error
        return Response(job_object(job_find(request.user, pk)))


class JobCancelView(JobActView):
    service = staticmethod(services.training_job_cancel)

    @extend_schema(
        operation_id="fine_tuning_jobs_cancel", request=None, responses=FineTuningJobSerializer
    )
    def post(self, request: Request, pk: str) -> Response:
        """A running job saves a checkpoint first and is `cancelled` a moment later."""
        return super().post(request, pk)


class JobPauseView(JobActView):
    service = staticmethod(services.training_job_pause)

    @extend_schema(
        operation_id="fine_tuning_jobs_pause", request=None, responses=FineTuningJobSerializer
    )
    def post(self, request: Request, pk: str) -> Response:
        """It saves a checkpoint and is `queued` until it is resumed."""
        return super().post(request, pk)


class JobResumeView(JobActView):
    service = staticmethod(services.training_job_resume)

    @extend_schema(
        operation_id="fine_tuning_jobs_resume", request=None, responses=FineTuningJobSerializer
    )
    def post(self, request: Request, pk: str) -> Response:
        """Goes on from the last checkpoint."""
        return super().post(request, pk)


class JobEventsView(OpenAIView):
    @extend_schema(
        operation_id="fine_tuning_jobs_events", parameters=PAGES, responses=EventListSerializer
    )
    def get(self, request: Request, pk: str) -> Response:
        """What happened, newest first; points of the curves are events of the type `metrics`."""
        job = job_find(request.user, pk)
        limit = _limit(request, MOST_EVENTS, DEFAULT_EVENTS)
        data, more = events_page(job, request.query_params.get("after", ""), limit)
        return _page(data, more)


class JobCheckpointsView(OpenAIView):
    @extend_schema(
        operation_id="fine_tuning_jobs_checkpoints",
        parameters=PAGES,
        responses=CheckpointListSerializer,
    )
    def get(self, request: Request, pk: str) -> Response:
        """Newest first."""
        job = job_find(request.user, pk)
        limit = _limit(request, MOST_CHECKPOINTS, DEFAULT_CHECKPOINTS)
        rows = job.checkpoints.order_by("-step")
        if after := request.query_params.get("after"):
            last = rows.filter(pk=after).first()
            if last is None:
                raise not_found("checkpoint", after, param="after")
            rows = rows.filter(step__lt=last.step)
        page = list(rows.select_related("job")[: limit + 1])
        points = job.metrics.filter(step__in=[one.step for one in page[:limit]])
        values = dict(points.values_list("step", "values"))
        version = job.versions.exclude(language_model=None).select_related("language_model").first()
        final = (version.step, version.language_model.name) if version else None
        data = [checkpoint_object(one, values.get(one.step, {}), final) for one in page[:limit]]
        return _page(data, len(page) > limit)


def _limit(request: Request, most: int, default: int) -> int:
    text = request.query_params.get("limit", "")
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ApplicationError(
            f"limit: a whole number from 1 to {most}.", code="invalid_value", param="limit"
        )
    return int(text)


def _page(data: list[dict[str, Any]], more: bool) -> Response:
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return Response(
        {"object": "list", "data": data, "first_id": None, "last_id": None, "has_more": more} | ends
    )
