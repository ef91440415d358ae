"""`manage.py serve_ocr` and `serve_llm` as processes of their own."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import httpx2

from tests.environment import ROOT
from tests.services import Server, free_port

TOKEN = "a-secret-of-the-tests"


class ModelServer(Server):
    """`arguments` are the command's, after its port; `env` goes to it.

    `loaded`: it counts as started once its model is loaded, else as soon as it listens.
    """

    start_seconds = 60  # for the networks to be compiled
    program = ""

    def __init__(self, *arguments: str, loaded: bool = True, **env: str) -> None:
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = arguments
        self.loaded = loaded
        self.env = {
            "DATA_DIR": str(self.folder),
            "ENV_FILE": os.devnull,
            "PYTHONPATH": str(ROOT),
            "MODEL_SERVER_TOKEN": TOKEN,
            **env,
        }
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )

    def command(self) -> list[str]:
        return [
            *("env", *(f"{name}={value}" for name, value in self.env.items())),
            *(sys.executable, str(ROOT / "manage.py"), self.program),
            *("--port", str(self.port), *self.arguments),
        ]

    def is_ready(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200 or not self.loaded
        except httpx2.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """One figure of /metrics; 0 where it has not been counted yet."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.client.get("/metrics").text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return 0

    def close(self) -> None:
        self.client.close()
        super().close()


class ModelServerProcess(ModelServer):
    """OCR: `engines` and `default` are its OCR_ENGINES and the one that it loads."""

    program = "serve_ocr"

    def __init__(
        self,
        *arguments: str,
        engines: dict[str, Any] | None = None,
        default: str = "rapidocr",
        loaded: bool = True,
        **env: str,
    ) -> None:
        engine_env = {"OCR_ENGINES": json.dumps(engines or {}), "OCR_DEFAULT_ENGINE": default}
        super().__init__(*arguments, loaded=loaded, **engine_env, **env)

    def predict(self, image: bytes, **fields: str) -> httpx2.Response:
        return self.client.post(
            "/predict", files={"image": image}, data={"language": "en", **fields}
        )


class LanguageServerProcess(ModelServer):
    """A language model: the tests' fake with `options`, unless `arguments` name an engine."""

    start_seconds = 120  # torch and transformers are imported
    program = "serve_llm"

    def __init__(
        self,
        *arguments: str,
        options: dict[str, Any] | None = None,
        loaded: bool = True,
        **env: str,
    ) -> None:
        fake = {"BACKEND": "tests.fakes.FakeLanguageEngine", "OPTIONS": options or {}}
        if "--engine" not in arguments:
            arguments = ("--engine", "fake", *arguments)
        super().__init__(*arguments, loaded=loaded, LLM_ENGINES=json.dumps({"fake": fake}), **env)

    def chat(self, text: str, **body: Any) -> httpx2.Response:
        """One message to the model `fake`, answered in one piece unless `stream` is given."""
        messages = [{"role": "user", "content": text}]
        return self.client.post(
            "/v1/chat/completions", json={"model": "fake", "messages": messages, **body}
        )
