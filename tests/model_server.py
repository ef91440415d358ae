"""`manage.py serve_ocr` as a process of its own."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import httpx2

from tests.environment import ROOT
from tests.services import Server, free_port

TOKEN = "a-secret-of-the-tests"


class ModelServerProcess(Server):
    """`engines` and `default` are its OCR_ENGINES and the one that it loads; more of `env`.

    `loaded`: it counts as started once its model is loaded, else as soon as it listens.
    """

    start_seconds = 60  # for the networks to be compiled

    def __init__(
        self,
        *arguments: str,
        engines: dict[str, Any] | None = None,
        default: str = "rapidocr",
        loaded: bool = True,
        **env: str,
    ) -> None:
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = arguments
        self.loaded = loaded
        self.env = {
            "DATA_DIR": str(self.folder),
            "ENV_FILE": os.devnull,
            "PYTHONPATH": str(ROOT),
            "OCR_ENGINES": json.dumps(engines or {}),
            "OCR_DEFAULT_ENGINE": default,
            "MODEL_SERVER_TOKEN": TOKEN,
            **env,
        }
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )

    def command(self) -> list[str]:
        return [
            *("env", *(f"{name}={value}" for name, value in self.env.items())),
            *(sys.executable, str(ROOT / "manage.py"), "serve_ocr"),
            *("--port", str(self.port), *self.arguments),
        ]

    def is_ready(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200 or not self.loaded
        except httpx2.TransportError:
            return False

    def predict(self, image: bytes, **fields: str) -> httpx2.Response:
        return self.client.post(
            "/predict", files={"image": image}, data={"language": "en", **fields}
        )

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
