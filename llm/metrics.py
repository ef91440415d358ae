"""What language models tell Prometheus: use by model, and which of them are in memory where."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from django.db.models import Sum
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from llm.models import ModelInstance, Usage
from mlops.metrics.counting import Histogram
from mlops.metrics.sources import Source

FIRST_TOKEN = Histogram(
    "mlops_llm_first_token_seconds",
    "From a worker's start on a request to the first of its text.",
    (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60),
    ("model",),
)


def rows() -> Iterator[Metric]:
    """Use is today's (UTC): a counter that begins anew each midnight is one to Prometheus."""
    yield from _use()
    yield from _instances()


def _use() -> Iterator[Metric]:
    today = Usage.objects.filter(day=datetime.now(UTC).date()).order_by()
    found = today.values_list("model__name").annotate(
        Sum("requests"), Sum("prompt_tokens"), Sum("completion_tokens")
    )
    requests = CounterMetricFamily(
        "mlops_llm_requests", "Requests answered by a model today (UTC).", labels=["model"]
    )
    tokens = CounterMetricFamily(
        "mlops_llm_tokens",
        "Tokens of today's requests (UTC): those read (prompt), those made (completion).",
        labels=["model", "part"],
    )
    for name, count, prompt, completion in found:
        # Of a model that was deleted the use stays.
        model = name or "(deleted)"
        requests.add_metric([model], count)
        tokens.add_metric([model, "prompt"], prompt)
        tokens.add_metric([model, "completion"], completion)
    yield from (requests, tokens)


def _instances() -> Iterator[Metric]:
    labels = ["model", "worker", "state"]
    memory = GaugeMetricFamily(
        "mlops_llm_model_memory_bytes",
        "A model in a worker's memory: weights and cache. state: loading, ready or failed.",
        labels=labels,
    )
    active = GaugeMetricFamily(
        "mlops_llm_model_requests",
        "Requests that the worker answers with the model now.",
        labels=labels,
    )
    for one in ModelInstance.objects.select_related("model"):
        values = [one.model.name, one.worker, one.state]
        memory.add_metric(values, one.memory_bytes)
        active.add_metric(values, one.active_requests)
    yield from (memory, active)


SOURCE = Source(counted=(FIRST_TOKEN,), rows=rows)
