"""What an installation needs, looked at one by one, each with what to do where it fails."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from django.conf import settings
from django.core.checks import WARNING, run_checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from mlops import policy, queues, selectors
from mlops.celery import app
from mlops.health import storage_write


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` in one line; `remedy` says what to do, for warnings and failures."""

    check: str
    status: Status
    found: str
    remedy: str = ""


# The oldest driver for each CUDA that torch may be built for (NVIDIA's compatibility table).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
SKEW_SECONDS = 5.0
LITTLE_SPACE = 5 * 1024**3
# Of one question to another server.
PATIENCE = 5


def findings() -> Iterator[Finding]:
    """All checks in the order in which they depend on each other; none of them raises."""
    yield from configuration()
    reached = database()
    yield reached
    for check in (migrations, workers, clock):
        if reached.status is Status.OK:
            yield from check()
        else:
            yield Finding(check.__name__, Status.SKIPPED, "needs the database")
    yield broker()
    yield storage()
    yield mlflow()
    yield policies()
    yield gpu()
    yield from folders()


def configuration() -> Iterator[Finding]:
    """What `manage.py check` says of the settings."""
    messages = [one for one in run_checks() if one.level >= WARNING]
    for one in messages:
        status = Status.FAILED if one.is_serious() else Status.WARNING
        yield Finding("settings", status, f"{one.msg} ({one.id})", one.hint or "")
    if not messages:
        yield Finding("settings", Status.OK, f"{settings.ENVIRONMENT}, without complaint")


def database() -> Finding:
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Finding(
            "database",
            Status.FAILED,
            _line(error),
            "Start the database, or correct DATABASE_URL (docker compose ps postgres).",
        )
    encoding = _encoding()
    if encoding != "UTF8":
        return Finding(
            "database",
            Status.FAILED,
            f"its encoding is {encoding}: texts in most languages can't be stored",
            "Dump it, make it anew with ENCODING 'UTF8', and restore.",
        )
    place = connection.settings_dict
    return Finding("database", Status.OK, f"{connection.vendor} {place['HOST'] or place['NAME']}")


def _encoding() -> str:
    if connection.vendor != "postgresql":
        return "UTF8"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_encoding")
        return cursor.fetchone()[0]


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        yield Finding(
            "migrations",
            Status.FAILED,
            f"{len(plan)} not applied, the first is {plan[0][0]}",
            "Run: manage.py migrate (with containers: docker compose up migrate).",
        )
    else:
        yield Finding("migrations", Status.OK, "all applied")


def workers() -> Iterator[Finding]:
    """A sign of life from each queue; one that /ready asks for must have it."""
    try:
        seen = selectors.queues_seen(settings.QUEUES)
    except DatabaseError as error:
        yield Finding("workers", Status.FAILED, _line(error), "Run: manage.py migrate")
        return
    for name in settings.QUEUES:
        if name in seen:
            yield Finding(f"worker {name}", Status.OK, "consumes its queue")
        else:
            yield Finding(
                f"worker {name}",
                Status.FAILED if name in settings.READY_QUEUES else Status.WARNING,
                f"no sign of life for {settings.QUEUE_SEEN_SECONDS:g} s",
                f"Start one (docker compose up -d worker-{name}; manage.py run), or look at its "
                f"log (docker compose logs worker-{name}).",
            )


def clock() -> Iterator[Finding]:
    """Leases are the database's time; logs, tokens and webhooks are this machine's."""
    if connection.vendor != "postgresql":
        yield Finding("clock", Status.OK, "the database has the same one")
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (theirs,) = cursor.fetchone()
    skew = abs((datetime.now(theirs.tzinfo) - theirs).total_seconds())
    if skew > SKEW_SECONDS:
        yield Finding(
            "clock",
            Status.FAILED,
            f"{skew:.0f} s away from the database's",
            "Let both machines keep time (timedatectl set-ntp true).",
        )
    else:
        yield Finding("clock", Status.OK, f"within {SKEW_SECONDS:g} s of the database's")


def broker() -> Finding:
    kind = settings.CELERY_BROKER_URL.partition(":")[0]
    try:
        waiting = sum(queues.depths(list(settings.QUEUES)).values())
        policy = _eviction() if kind.startswith("redis") else "noeviction"
    except queues.BROKER_ERRORS as error:
        return Finding(
            "broker",
            Status.FAILED,
            _line(error),
            "Start the broker, or correct REDIS_URL and its password (docker compose ps redis).",
        )
    if policy != "noeviction":
        return Finding(
            "broker",
            Status.FAILED,
            f"{kind} throws away what it has no room for ({policy})",
            "Set maxmemory-policy noeviction: jobs' messages would be lost.",
        )
    return Finding("broker", Status.OK, f"{kind}, {waiting} messages wait")


def _eviction() -> str:
    with app.connection_for_write() as link:
        client = link.default_channel.client
        return client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")


def storage() -> Finding:
    place = settings.S3_BUCKET or settings.STORAGES["default"].get("OPTIONS", {}).get("location")
    try:
        storage_write()
    except Exception as error:
        # Each kind of storage raises errors of its own, and all mean the same here.
        return Finding(
            "storage",
            Status.FAILED,
            _line(error),
            "Check S3_BUCKET, S3_ENDPOINT_URL and its keys; or make MEDIA_ROOT a folder that user "
            f"{os.getuid()} may write.",
        )
    return Finding("storage", Status.OK, f"{place} takes files")


def mlflow() -> Finding:
    uri = settings.MLFLOW_TRACKING_URI
    if uri == "none":
        return Finding("mlflow", Status.SKIPPED, "tracking is off (MLFLOW_TRACKING_URI=none)")
    if not uri.startswith(("http://", "https://")):
        return Finding("mlflow", Status.OK, f"kept here, in {uri.partition(':')[0]}")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE):
            return Finding("mlflow", Status.OK, f"{uri} answers")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Finding(
            "mlflow",
            Status.WARNING,
            f"{uri}: {_line(error)}",
            "Start MLflow (docker compose --profile mlflow up -d mlflow), or correct "
            "MLFLOW_TRACKING_URI. Jobs go on without it; their runs are logged later.",
        )


def policies() -> Finding:
    """Whether the Cerbos server, if one decides, has read its policies."""
    if not settings.CERBOS_URL:
        return Finding("policies", Status.OK, "the groups say who may do what")
    try:
        policy.health()
    except policy.PolicyUnavailable as error:
        return Finding(
            "policies",
            Status.FAILED,
            f"{settings.CERBOS_URL}: {_line(error.__cause__ or error)}",
            "Start Cerbos, or mend the policy that its log names (docker compose logs cerbos), or "
            "correct CERBOS_URL. Until then superusers alone may do anything.",
        )
    return Finding("policies", Status.OK, f"{settings.CERBOS_URL} decides")


def gpu() -> Finding:
    """The GPU that the driver shows, and whether the installed torch is built for that driver."""
    driver, built_for = _driver(), _torch_cuda()
    if built_for is None:
        return Finding("gpu", Status.SKIPPED, "no torch is installed here")
    if driver is None:
        if built_for == "":
            return Finding("gpu", Status.OK, "none is seen, and torch is built for the CPU")
        return Finding(
            "gpu",
            Status.FAILED,
            f"torch is built for CUDA {built_for}, but no GPU is seen",
            "Start the container with GPUs (docker/compose.gpu.yml, --gpus all) on a host with "
            "the NVIDIA driver and nvidia-container-toolkit, or use a cpu preset.",
        )
    name, version = driver
    if built_for == "":
        return Finding(
            "gpu",
            Status.WARNING,
            f"{name} is seen, but torch is built for the CPU",
            "Use images of a cuda preset, or torch's CUDA build, to have it used.",
        )
    needs = OLDEST_DRIVER.get(int(built_for.partition(".")[0]), 0)
    if int(version.partition(".")[0]) < needs:
        return Finding(
            "gpu",
            Status.FAILED,
            f"driver {version} is too old for torch's CUDA {built_for}",
            f"Install driver {needs} or newer on the host, or use a preset of an older CUDA.",
        )
    return Finding("gpu", Status.OK, f"{name}, driver {version}, torch for CUDA {built_for}")


def _driver() -> tuple[str, str] | None:
    """Names of the GPUs and the driver's version; None where nvidia-smi shows none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 1]
    if done.returncode != 0 or not rows:
        return None
    return " and ".join(name for name, _version in rows), rows[0][1]


def _torch_cuda() -> str | None:
    """The CUDA that the installed torch is built for; "" for the CPU, None without a torch.

    Read, not imported: importing it takes seconds and hundreds of megabytes.
    """
    try:
        place = importlib.metadata.distribution("torch").locate_file("torch/version.py")
        text = Path(str(place)).read_text()
    except (importlib.metadata.PackageNotFoundError, OSError):
        return None
    found = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return found.group(1) if found else ""


def folders() -> Iterator[Finding]:
    """Where models are kept and trainers work: there, writable, with room."""
    home = os.environ.get("HF_HOME", str(Path("~/.cache/huggingface").expanduser()))
    for what, folder in (("model cache", Path(home)), ("work folder", settings.TRAINING_FOLDER)):
        # It is made when it is first needed, if what it stands in may be written.
        place = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK):
            yield Finding(
                what,
                Status.WARNING,
                f"{folder} can't be written by user {os.getuid()}",
                f"chown {os.getuid()} {folder}, or mount a volume there. Nothing is downloaded "
                "until then.",
            )
        elif free < LITTLE_SPACE:
            yield Finding(
                what,
                Status.WARNING,
                f"{folder} has {free / 1024**3:.1f} GB left",
                "Make room: models and checkpoints take gigabytes.",
            )
        else:
            yield Finding(what, Status.OK, f"{folder}, {free / 1024**3:.0f} GB free")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def table(found: list[Finding], *, width: int) -> str:
    """Rows for a terminal of `width` columns; remedies stand below what they mend."""
    first = max(len(one.check) for one in found)
    lines = []
    for one in found:
        lines.append(f"{one.status:<8}{one.check:<{first + 2}}{one.found}"[: max(width, 60)])
        if one.remedy and one.status in (Status.FAILED, Status.WARNING):
            lines.append(f"{'':<{first + 10}}-> {one.remedy}")
    return "\n".join(lines)
