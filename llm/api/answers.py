"""`POST /api/v1/llm/answers`: a question, answered from one's documents, with citations."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from llm.api.generate import GenerateView, Parsed, Place, answered
from llm.api.replies import DONE
from llm.api.search import search_found
from llm.api.search_serializers import AnswerSerializer
from llm.engines.base import Delta, Ended, Finished
from llm.models import GenerationJob
from llm.relay.wire import Begun, Message
from llm.retrieval.answering import (
    NOTHING_FOUND,
    CitedText,
    answer_json,
    answer_messages,
    passages_for,
)
from llm.retrieval.searching import Found, Hit, Plan, hit_json, plan_search
from llm.selectors import model_resolve


class QuestionView(APIView):
    """Checks the caller, the question and the model; the search follows outside of it."""

    @extend_schema(
        operation_id="llm_answer", request=AnswerSerializer, responses={200: OpenApiTypes.OBJECT}
    )
    def post(self, request: Request) -> Response:
        """An answer from your documents. `citations` are the passages that it names as [1].

        With `stream` server-sent events: `answer.passages`, `answer.delta`s, then the `answer`.
        Where no passage is found no model is asked.
        """
        given = AnswerSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        model_resolve(asked["model"])
        plan = plan_search(
            user=request.user,
            query=asked["question"],
            mode=asked["mode"],
            limit=asked["passages"],
            documents=asked.get("documents"),
        )
        return Response({"plan": plan, "asked": asked})


class AnswerView(GenerateView):
    """The question with its passages, sent to the model as a conversation."""

    endpoint = GenerationJob.Endpoint.CHAT

    @extend_schema(exclude=True)
    def post(self, request: Request, place: Place, asking: Asking) -> Response:
        self.asking = asking
        asked = asking.asked
        body = {
            "model": asked["model"],
            "messages": answer_messages(asking.plan.query, asking.hits),
            "temperature": 0,
            "max_tokens": asked["max_tokens"],
            "stream": asked["stream"],
        }
        return self.submit(request, place, body)

    def parse(self, data: Any, key: uuid.UUID) -> Parsed:
        return Parsed(data["model"], data["stream"], AnswerShape(self.asking))


class Asking:
    """A question and the passages found for it; made in a thread that may read the database."""

    def __init__(self, plan: Plan, asked: dict[str, Any], found: Found) -> None:
        self.plan, self.asked = plan, asked
        self.hits: list[Hit] = passages_for(
            found.hits, model_resolve(asked["model"]).root.context_length
        )
        self.passages = [hit_json(hit, plan.query) for hit in self.hits]
        self.search = {"mode": found.mode, "note": found.note or None}

    def answer(
        self, text: str, cited: Iterable[int] = (), usage: dict[str, int] | None = None
    ) -> dict[str, Any]:
        return answer_json(
            question=self.plan.query,
            text=text,
            model=self.asked["model"],
            passages=self.passages,
            cited=list(cited),
            search=self.search,
            usage=usage,
        )


class AnswerShape:
    """Makes the answer's objects of the model's events."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._text = CitedText(len(asking.passages))
        self._said: list[str] = []

    def chunks(self, message: Message) -> Iterable[dict[str, Any]]:
        match message:
            case Begun():
                asking = self._asking
                passages = {"passages": asking.passages, "search": asking.search}
                yield {"object": "answer.passages", **passages}
            case Delta(text=text):
                yield from self._delta(self._text.feed(text))
            case Finished():
                yield from self._delta(self._text.finish())
            case Ended(usage=usage):
                used = {
                    "prompt_tokens": usage.prompt,
                    "completion_tokens": usage.completion,
                    "total_tokens": usage.prompt + usage.completion,
                }
                text = "".join(self._said).strip()
                yield self._asking.answer(text, self._text.cited, used)

    def whole(self, messages: Iterable[Message]) -> dict[str, Any]:
        said = [chunk for message in messages for chunk in self.chunks(message)]
        return said[-1]

    def _delta(self, text: str) -> Iterable[dict[str, Any]]:
        if text:
            self._said.append(text)
            yield {"object": "answer.delta", "text": text}


@csrf_exempt
async def answers(request: HttpRequest) -> HttpResponseBase:
    """Searches, then asks the model: two waits, and a thread is held by neither."""
    # Read now, the body can be read twice.
    _ = request.body
    started = await sync_to_async(QuestionView.as_view())(request)
    if started.status_code != 200 or "plan" not in started.data:
        await sync_to_async(started.render)()
        return started
    plan, asked = started.data["plan"], started.data["asked"]
    found = await search_found(plan)
    asking = await sync_to_async(Asking)(plan, asked, found)
    if not asking.hits:
        return _nothing(asking)
    return await answered(request, AnswerView, asking=asking)


def _nothing(asking: Asking) -> HttpResponseBase:
    answer = asking.answer(NOTHING_FOUND)
    if not asking.asked["stream"]:
        return JsonResponse(answer, json_dumps_params={"ensure_ascii": False})
    event = f"data: {json.dumps(answer, ensure_ascii=False)}\n\n".encode()
    return HttpResponse([event, DONE], content_type="text/event-stream")
