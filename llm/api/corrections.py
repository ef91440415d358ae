"""`/api/v1/llm/corrections/`: what a model would change in a text that was read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from llm.correction.differences import differences
from llm.models import PageFix, TextFix
from llm.services import text_fixes as services
from mlops.services import job_cancel, job_retry
from ocr.models import Document, OcrJob

NUMBER = OpenApiParameter("number", int, "path", description="of the page, counted from 1")


class CorrectionCreateSerializer(serializers.Serializer):
    """Either the id of an OCR job, or of a document, whose newest reading is taken."""

    job = serializers.UUIDField(required=False)
    document = serializers.UUIDField(required=False)
    model = serializers.CharField(max_length=200, help_text="as GET /v1/models lists them")
    page_range = serializers.CharField(
        default="", allow_blank=True, max_length=200, help_text="such as 1-3,7; empty for all"
    )
    max_change = serializers.FloatField(
        default=services.MAX_CHANGE,
        min_value=0,
        max_value=1,
        help_text="edits as a share of a line's characters; beyond it the original stands",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("job" in attrs) == ("document" in attrs):
            raise serializers.ValidationError(
                "Give either 'job' (of OCR) or 'document'.", code="document_or_job"
            )
        return attrs


class AcceptLinesSerializer(serializers.Serializer):
    lines = serializers.ListField(
        child=serializers.IntegerField(min_value=0),
        required=False,
        help_text="their numbers; all that were not refused by default",
    )


class TextFixSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="textfix-detail")
    job = serializers.PrimaryKeyRelatedField(source="ocr_job", read_only=True)
    document = serializers.UUIDField(source="ocr_job.document_id", read_only=True)
    model = serializers.CharField(source="asked_model", read_only=True)
    progress = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    figures = serializers.SerializerMethodField(
        help_text="counts, and the CER before and after on pages with an accepted text"
    )

    class Meta:
        model = TextFix
        fields = [
            *("id", "url", "status", "job", "document", "model", "page_range", "max_change"),
            *("progress", "figures", "prompt_tokens", "completion_tokens", "error"),
            *("created_at", "started_at", "finished_at"),
        ]

    def get_progress(self, job: TextFix) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: TextFix) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None

    def get_figures(self, job: TextFix) -> dict[str, Any]:
        return job.figures()


class CorrectionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Your corrections; operators see everybody's. The text that was read is never changed."""

    queryset = TextFix.objects.none()
    serializer_class = TextFixSerializer
    filterset_fields = {"status": ["exact"], "ocr_job": ["exact"], "asked_model": ["exact"]}
    parser_classes = [JSONParser]

    def get_queryset(self) -> QuerySet[TextFix]:
        return TextFix.objects.visible_to(self.request.user).select_related("ocr_job")

    @extend_schema(request=CorrectionCreateSerializer, responses={202: TextFixSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; `pages` has what was found as it comes."""
        given = CorrectionCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        job = services.text_fix_submit(
            ocr_job=self._ocr_job(options.pop("job", None), options.pop("document", None)),
            owner=request.user,
            **options,
        )
        data = self.get_serializer(job).data
        return Response(data, status=status.HTTP_202_ACCEPTED, headers={"Location": data["url"]})

    @extend_schema(request=None, responses={202: TextFixSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        job = self.get_object()
        job_cancel(job=job)
        return Response(self.get_serializer(self.get_object()).data, status=202)

    @extend_schema(request=None, responses={202: TextFixSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Goes on with the pages that have not been corrected yet."""
        job_retry(job=self.get_object())
        return Response(self.get_serializer(self.get_object()).data, status=202)

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    @action(detail=True)
    def pages(self, request: Request, **_: Any) -> Response:
        """Each page with the lines that the model would have otherwise, word by word."""
        pages = self.get_object().pages.select_related("result__page")
        return Response({"pages": [page_fix_json(page) for page in pages]})

    @extend_schema(
        parameters=[NUMBER], request=AcceptLinesSerializer, responses={200: OpenApiTypes.OBJECT}
    )
    @action(detail=True, methods=["post"], url_path=r"pages/(?P<number>\d{1,6})/accept")
    def accept(self, request: Request, number: str, **_: Any) -> Response:
        """Takes changes over into the page's review, as corrections of yours."""
        given = AcceptLinesSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        pages = self.get_object().pages.select_related("result__page")
        page = get_object_or_404(pages, result__page__number=int(number))
        done = services.text_fix_accept(
            page=page, user=request.user, lines=given.validated_data.get("lines")
        )
        body = {"accepted": done.lines, "skipped": done.skipped, "version": done.review.version}
        return Response(body | page_fix_json(page))

    def _ocr_job(self, job: Any, document: Any) -> OcrJob:
        user = self.request.user
        if job is not None:
            jobs = OcrJob.objects.visible_to(user).select_related("document")
            return get_object_or_404(jobs, pk=job)
        found = get_object_or_404(Document.objects.visible_to(user), pk=document)
        return services.latest_reading(found)


def page_fix_json(page: PageFix) -> dict[str, Any]:
    """A page's changes; `differences` go down both texts, word by word."""
    return {
        "page": page.result.page.number,
        "result": page.result_id,
        "changed": page.changed,
        "refused": page.refused,
        "characters": page.characters,
        "errors_before": page.errors_before,
        "errors_after": page.errors_after,
        "lines": [
            {
                **line,
                "refused": line["refused"] or None,
                "accepted": line["accepted"] or None,
                "differences": [
                    asdict(piece) for piece in differences(line["before"], line["after"])
                ],
            }
            for line in page.lines
        ],
    }
