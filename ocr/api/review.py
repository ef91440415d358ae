"""`/api/v1/ocr/reviews/`: the pages that wait for a review, their lines, and each change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from ocr import services
from ocr.api.review_serializers import (
    AcceptSerializer,
    CorrectionSerializer,
    FlagSerializer,
    LineAddSerializer,
    LineChangeSerializer,
    LinesMergeSerializer,
    LineSplitSerializer,
    NextSerializer,
    OrderSerializer,
    QueueFilterSerializer,
    QueueRowSerializer,
    SinceSerializer,
    VersionSerializer,
)
from ocr.models import Correction, PageResult, PageReview
from ocr.models.review import reviewable_results
from ocr.review_queue import queue_results
from ocr.review_state import review_delta, review_json, review_of

RESULT = OpenApiParameter("id", int, "path", description="of the page's result")
LINE = OpenApiParameter("line", str, "path", description="of the line")
STATE = {200: OpenApiTypes.OBJECT}


class ReviewViewSet(viewsets.GenericViewSet):
    """Pages under review, by the id of the result: your own, or everybody's for annotators.

    A change names the `version` that you saw. 409 says that somebody changed the same line after
    it; the answer then holds the page as it is now in `review`.
    """

    queryset = PageResult.objects.none()
    serializer_class = QueueRowSerializer
    parser_classes = [JSONParser]
    lookup_value_regex = r"\d+"

    def get_queryset(self) -> QuerySet[PageResult]:
        rows = reviewable_results(self.request.user)
        return rows.select_related("page", "job__document")

    def handle_exception(self, error: Exception) -> Response:
        response = super().handle_exception(error)
        if isinstance(error, services.ReviewConflict):
            review = error.review
            review.result = self.get_object()
            response.data |= {"review": review_json(review), "line": error.line_id}
        return response

    # -- the queue ----------------------------------------------------------------------------

    @extend_schema(parameters=[QueueFilterSerializer])
    def list(self, request: Request) -> Response:
        """What waits, the most urgent first; with `status`, what was flagged or accepted."""
        given = QueueFilterSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        rows = self.paginate_queryset(queue_results(request.user, given.queue_filter()))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    @extend_schema(request=NextSerializer, responses=STATE)
    @action(detail=False, methods=["post"])
    def next(self, request: Request) -> Response:
        """Claims the next page for you: `{"review": …}`, null when nothing is left."""
        given = NextSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        skip = given.validated_data["skip"]
        review = services.review_next(user=request.user, wanted=given.queue_filter(), skip=skip)
        return Response({"review": review and self._whole(review.result_id)})

    # -- one page -----------------------------------------------------------------------------

    @extend_schema(parameters=[RESULT, SinceSerializer], responses=STATE)
    def retrieve(self, request: Request, **_: Any) -> Response:
        """The page with its lines; with `since`, what changed after that version. Has an ETag."""
        given = SinceSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        since = given.validated_data.get("since")
        review = review_of(self.get_object())
        etag = f'"{review.version}{"" if since is None else f"-{since}"}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if request.headers.get("If-None-Match") == etag:
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=headers)
        data = review_json(review) if since is None else review_delta(review, since)
        return Response(data, headers=headers)

    @extend_schema(parameters=[RESULT], request=None, responses=STATE)
    @action(detail=True, methods=["post"])
    def open(self, request: Request, **_: Any) -> Response:
        """Claims the page for you unless somebody else has it, which `claimed_by` says."""
        result = self.get_object()
        services.review_open(result=result, user=request.user)
        return Response(self._whole(result.pk))

    @extend_schema(parameters=[RESULT], request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def release(self, request: Request, **_: Any) -> Response:
        """Gives your claim back."""
        review = PageReview.objects.filter(result=self.get_object()).first()
        if review:
            services.review_release(review=review, user=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(parameters=[RESULT], request=AcceptSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, **_: Any) -> Response:
        """Vouches for the text of the page; 409 if it changed after `version`."""
        return self._decided(services.review_accept, AcceptSerializer)

    @extend_schema(parameters=[RESULT], request=FlagSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def flag(self, request: Request, **_: Any) -> Response:
        """Sets the page aside for somebody else; `note` says why."""
        return self._decided(services.review_flag, FlagSerializer)

    @extend_schema(parameters=[RESULT], request=None, responses=STATE)
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, **_: Any) -> Response:
        """Lets an accepted or flagged page be changed again."""
        return self._decided(services.review_reopen)

    @extend_schema(parameters=[RESULT], responses=CorrectionSerializer(many=True))
    @action(detail=True)
    def corrections(self, request: Request, **_: Any) -> Response:
        """Each change of the page, the earliest first: who, when, before, after, box."""
        rows = Correction.objects.filter(review__result=self.get_object()).select_related("user")
        page = self.paginate_queryset(rows.order_by("version"))
        return self.get_paginated_response(CorrectionSerializer(page, many=True).data)

    # -- lines --------------------------------------------------------------------------------

    @extend_schema(parameters=[RESULT], request=LineAddSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def lines(self, request: Request, **_: Any) -> Response:
        """Adds a line that the engine missed."""
        return self._changed(LineAddSerializer, services.line_add)

    @extend_schema(parameters=[RESULT, LINE], request=LineChangeSerializer, responses=STATE)
    @action(detail=True, methods=["patch"], url_path=r"lines/(?P<line>\w{1,20})")
    def line(self, request: Request, line: str, **_: Any) -> Response:
        """Another `text` or another `polygon` for the line."""
        edits = "text" in request.data
        change = services.line_edit if edits else services.box_change
        return self._changed(LineChangeSerializer, change, line_id=line)

    @extend_schema(parameters=[RESULT, LINE, VersionSerializer], responses=STATE)
    @line.mapping.delete
    def line_delete(self, request: Request, line: str, **_: Any) -> Response:
        return self._changed(VersionSerializer, services.line_remove, line_id=line)

    @extend_schema(parameters=[RESULT], request=LinesMergeSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def merge(self, request: Request, **_: Any) -> Response:
        """Lines that follow one another become one."""
        return self._changed(LinesMergeSerializer, services.line_merge)

    @extend_schema(parameters=[RESULT], request=LineSplitSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def split(self, request: Request, **_: Any) -> Response:
        """Cuts a line in two before its character `at` (code points, from 0)."""
        return self._changed(LineSplitSerializer, services.line_split)

    @extend_schema(parameters=[RESULT], request=OrderSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def order(self, request: Request, **_: Any) -> Response:
        """All lines' ids in another reading order."""
        return self._changed(OrderSerializer, services.lines_reorder)

    @extend_schema(parameters=[RESULT], request=SinceSerializer, responses=STATE)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, **_: Any) -> Response:
        """Takes your last change of this page back, by a new correction."""
        return self._changed(SinceSerializer, services.correction_undo)

    # -- parts --------------------------------------------------------------------------------

    def _begun(self) -> PageReview:
        return services.review_begin(result=self.get_object())

    def _whole(self, pk: int) -> dict[str, Any]:
        return review_json(review_of(self.get_queryset().get(pk=pk)))

    def _decided(
        self, decide: Callable[..., PageReview], kind: type[Any] | None = None
    ) -> Response:
        given = kind(data=self.request.data) if kind else None
        if given:
            given.is_valid(raise_exception=True)
        options = given.validated_data if given else {}
        review = decide(review=self._begun(), user=self.request.user, **options)
        return Response(review_delta(review, review.version))

    def _changed(
        self, kind: type[Any], change: Callable[..., Correction | None], **more: Any
    ) -> Response:
        """Answers with what changed since the version that the caller has (`since`)."""
        sent = self.request.query_params if self.request.method == "DELETE" else self.request.data
        given = kind(data=sent)
        given.is_valid(raise_exception=True)
        options = given.validated_data | more
        since = options.pop("since", options.get("version", 0))
        begun = self._begun()
        correction = change(review=begun, user=self.request.user, **options)
        review = correction.review if correction else begun
        return Response(review_delta(review, since) | {"correction": correction and correction.pk})
