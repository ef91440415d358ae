"""What the language-model server tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from mlops.serving.metrics import ServerMetrics

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
_FIRST = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 12, 30, 60)
_GAPS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)


class Metrics(ServerMetrics):
    """One language-model server's figures."""

    def __init__(self) -> None:
        super().__init__("llm", seconds=_SECONDS, request_labels=("path", "status"))
        own = self.registry
        self.prompt_tokens = Counter("llm_prompt_tokens", "Tokens read.", ["model"], registry=own)
        self.cached_tokens = Counter(
            "llm_cached_tokens",
            "Tokens of prompts that were taken from a shared prefix.",
            ["model"],
            registry=own,
        )
        self.completion_tokens = Counter(
            "llm_completion_tokens", "Tokens made.", ["model"], registry=own
        )
        self.first_token = Histogram(
            "llm_first_token_seconds",
            "From the moment a request was taken to the first of its text.",
            buckets=_FIRST,
            registry=own,
        )
        self.token_gap = Histogram(
            "llm_token_gap_seconds",
            "Between two pieces of one answer, which are a token each as a rule.",
            buckets=_GAPS,
            registry=own,
        )
        self.waiting = Gauge(
            "llm_requests_waiting", "Requests of which nothing has come yet.", registry=own
        )
        self.running = Gauge(
            "llm_requests_running", "Requests that are being answered.", registry=own
        )
        self.batch = Gauge(
            "llm_batch_size", "Answers that the model makes at the same time.", registry=own
        )
        self.queue_depth = Gauge(
            "llm_queue_depth", "Answers that wait for a place in the batch.", registry=own
        )
        self.kv_tokens = Gauge(
            "llm_kv_tokens",
            "Tokens whose keys and values are kept for the answers of the batch.",
            registry=own,
        )
        self.memory = Gauge(
            "llm_model_memory_bytes", "Weights, cache and adapters of all models.", registry=own
        )
