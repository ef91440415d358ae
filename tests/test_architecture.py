"""The shape of the code: layers hold, and the web process stays free of ML libraries."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT

HEAVY = {
    "accelerate",
    "cv2",
    "datasets",
    "easyocr",
    "llguidance",
    "mlflow",
    "numpy",
    "onnxruntime",
    "openvino",
    "paddle",
    "paddleocr",
    "paddlex",
    "peft",
    "pyarrow",
    "qdrant_client",
    "rapidocr",
    "scipy",
    "sklearn",
    "torch",
    "torchvision",
    "transformers",
    "trl",
}

WEB = """
import importlib, json, os, pkgutil, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
import django
django.setup()
from django.urls import get_resolver
def walk(resolver):
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            walk(pattern)
        else:
            pattern.callback
walk(get_resolver())
import mlops.asgi
for app in ("mlops", "ocr", "llm", "finetune"):
    package = importlib.import_module(app)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name == "tasks":
            importlib.import_module(f"{app}.tasks")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_import_contracts() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_web_process_holds_no_ml_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WEB],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "django" in loaded and "ocr" in loaded
    assert not loaded & HEAVY


def test_a_batch_child_needs_no_django() -> None:
    program = "import sys, ocr.batch_child; print('django' in sys.modules, 'celery' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("app", ["mlops", "ocr", "llm", "finetune"])
def test_every_command_has_a_test(app: str) -> None:
    """A command that no test calls is a command that breaks unnoticed."""
    folder = ROOT / app / "management" / "commands"
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for module in pkgutil.iter_modules([str(folder)]):
        assert f'"{module.name}"' in tests, f"no test calls manage.py {module.name}"


def test_no_module_of_odds_and_ends() -> None:
    files = [
        path for app in ("mlops", "ocr", "llm", "finetune") for path in (ROOT / app).rglob("*.py")
    ]
    assert files
    assert not [path for path in files if path.stem in ("utils", "helpers", "common", "misc")]
