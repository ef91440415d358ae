"""What must stand before Django's settings load; a plugin that pyproject.toml names.

The suite runs on a real PostgreSQL, or with `--db=sqlite` on SQLite. Nothing of the developer's
environment gets in, nothing is written into the checkout.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.services import MissingProgram, PostgresServer

ROOT = Path(__file__).resolve().parent.parent
# Real scans, which are no part of the repository: tests marked data run where they are.
DATA = ROOT.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--db", choices=("postgres", "sqlite"), default="postgres", help="what the suite runs on"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Runs around pytest-django's hook of this name, which loads the settings."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        # The environment is the controller's: its server serves all workers.
        os.environ["DATA_DIR"] = str(Path(os.environ["DATA_DIR"]).parent / worker)
    else:
        forget_environment()
        # Processes of tests share the cores, and their models are tiny: threads only wait.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        # Or every process that a test starts compiles all that it imports anew.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False
        folder = tempfile.mkdtemp(prefix="tests-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["DATA_DIR"] = str(Path(folder) / "main")
        if early_config.known_args_namespace.db == "postgres":
            os.environ["DATABASE_URL"] = start_postgres().url
    return (yield)


def forget_environment() -> None:
    """Drops every variable that the settings read, and the developer's .env."""
    for name in re.findall(r'\benv\.\w+\(\s*"(\w+)"', (ROOT / "mlops/settings.py").read_text()):
        os.environ.pop(name, None)
    os.environ["ENV_FILE"] = os.devnull


def start_postgres() -> PostgresServer:
    try:
        server = PostgresServer()
    except MissingProgram as error:
        raise pytest.UsageError(f"{error} (or run with --db=sqlite)") from error
    atexit.register(server.close)
    server.start()
    return server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked gpu run only when asked for (-m gpu), those marked data beside the data."""
    left_out = [] if "gpu" in config.option.markexpr else ["gpu"]
    left_out += [] if DATA.is_dir() else ["data"]
    out = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    for item in items:
        # Those that start whole servers; on a busy machine that alone takes a minute.
        whole = any(map(item.get_closest_marker, ("e2e", "faults", "browser")))
        if whole and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, pytest.TestReport]:
    report = yield
    fail_skip_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, pytest.CollectReport]:
    report = yield
    fail_skip_in_ci(report)
    return report


def fail_skip_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI everything is installed, so that a skip is a test that silently went missing."""
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("CI", "").lower() in ("1", "true"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which fails in CI: {report.longrepr}"
