"""What a request to a language model does: the model in, events out, what it used to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from django.db import close_old_connections, connection

from llm import held
from llm.answering import Answering
from llm.ask import adapter_of, failure
from llm.engines.base import Ended, Failed, GenerationRequest, LoadedModel, Usage
from llm.metrics import FIRST_TOKEN
from llm.models import GenerationJob
from llm.open_requests import CANCELLED, LOST, STOPPING, open_requests
from llm.openai.answers import packed_vector
from llm.openai.generation import chat_generation, completion_generations
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from llm.relay.outbox import Reply, outbox
from llm.relay.wire import Begun, Vectors
from llm.usage import usage_add
from mlops.exceptions import ApplicationError, JobCancelled, JobFailed, LeaseLost
from mlops.jobs import JobContext, WorkerStopping, stopping

log = structlog.get_logger(__name__)

INTERRUPTED = "The worker ended before the answer was complete. Send the request again."


def run(job: GenerationJob, context: JobContext) -> None:
    """Answers one request. Raises what the engine says against it, for the row and its reader."""
    with outbox().reply(request=str(job.pk), attempt=job.attempts, stream=job.reply_to) as reply:
        try:
            if job.model is None:
                raise JobFailed("The model was deleted meanwhile.", code="model_not_found")
            # A run of its own in the tracker, if the model's setting asks for it.
            job.TRACKED = job.model.trace
            loaded = held.get(job.model)
            if job.endpoint == GenerationJob.Endpoint.EMBEDDING:
                _embed(job, loaded, reply)
            else:
                _generate(job, loaded, reply)
        except ApplicationError as error:
            reply.send(Failed(error.message, error.code, error.param, error.status))
            _forget(job)
            raise
        except JobFailed as error:
            reply.send(Failed(error.message, error.code, None, 503))
            _forget(job)
            raise
        finally:
            # Another worker may still take over what nobody has seen a part of.
            if job.streamed or (job.attempts >= job.max_attempts and not stopping.is_set()):
                reply.send(Failed(INTERRUPTED, "worker_lost", None, 502))


def _generate(job: GenerationJob, loaded: LoadedModel, reply: Reply) -> None:
    requests = _requests(job, loaded)
    answering = Answering(reply, requests, streamed=job.streamed)
    reply.send(Begun(loaded.tool_format))

    def stop() -> None:
        for request in requests:
            loaded.cancel(request.id)

    with open_requests.hold(job, stop) as mine:
        answering.submit(loaded)
        _let_go()
        answering.done.wait()
    last = answering.last
    if mine.stopped == LOST:
        raise LeaseLost
    if isinstance(last, Ended) and mine.stopped in ("", CANCELLED):
        # Who waits is told first, and what it cost is written down after.
        answering.send_rest()
    _record(job, answering)
    if mine.stopped == CANCELLED:
        raise JobCancelled
    if mine.stopped == STOPPING:
        raise JobFailed(INTERRUPTED, code="worker_lost") if job.streamed else WorkerStopping
    if isinstance(last, Failed):
        raise failure(last)


def _requests(job: GenerationJob, loaded: LoadedModel) -> Sequence[GenerationRequest]:
    adapter = adapter_of(job.model)
    if job.endpoint == GenerationJob.Endpoint.CHAT:
        body = ChatRequest.parse(job.body)
        return [
            chat_generation(
                body, request_id=str(job.pk), tool_format=loaded.tool_format, adapter=adapter
            )
        ]
    body = CompletionRequest.parse(job.body)
    return completion_generations(body, request_id=str(job.pk), adapter=adapter)


def _embed(job: GenerationJob, loaded: LoadedModel, reply: Reply) -> None:
    texts = EmbeddingRequest.parse(job.body).texts
    reply.send(Begun(""))
    _let_go()
    made = loaded.embed(texts)
    reply.send(Vectors(tuple(packed_vector(vector) for vector in made.vectors), made.tokens))
    _write(job, Usage(prompt=made.tokens), finish_reason="stop")


def _record(job: GenerationJob, answering: Answering) -> None:
    answer = answering.parts.whole()
    kept = {"texts": list(answer.texts), "finish_reasons": list(answer.finish_reasons)}
    _write(
        job,
        answer.usage,
        finish_reason=answer.finish_reasons[0],
        answer=kept if job.model.store_texts else None,
        first_token_ms=answering.first_token_ms,
    )


def _write(
    job: GenerationJob,
    usage: Usage,
    *,
    finish_reason: str,
    answer: dict[str, Any] | None = None,
    first_token_ms: float | None = None,
) -> None:
    GenerationJob.objects.filter(pk=job.pk).update(
        body=job.body if job.model.store_texts else None,
        answer=answer,
        prompt_tokens=usage.prompt,
        cached_tokens=usage.cached,
        completion_tokens=usage.completion,
        finish_reason=finish_reason,
        first_token_ms=first_token_ms,
    )
    if first_token_ms is not None:
        FIRST_TOKEN.observe(job.model.name, amount=first_token_ms / 1000)
    usage_add(
        owner=job.owner_id,
        api_key=job.api_key_id,
        model=job.model_id,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
    )


def _forget(job: GenerationJob) -> None:
    """The text of a request that has failed, unless its model keeps texts."""
    if job.model is None or not job.model.store_texts:
        GenerationJob.objects.filter(pk=job.pk).update(body=None)


def _let_go() -> None:
    """Gives the database connection back to its pool: the wait may last for minutes.

    Without a pool it is in nobody's way, and opening another would cost time. In the midst of a
    transaction it can't be given away.
    """
    if "pool" in connection.settings_dict["OPTIONS"] and not connection.in_atomic_block:
        close_old_connections()
