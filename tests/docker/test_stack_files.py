"""compose.yml and the scripts around it, as far as they can be tried without an engine."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops.broker import transport_options
from tests.environment import ROOT

OUTSIDE = {"postgres", "redis", "flower", "minio", "qdrant", "prometheus", "grafana"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yml").read_text())["services"]


def test_every_service_is_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], name
        # 0: all that the machine has.
        assert "cpus" in service, name
        assert service["restart"] in ("unless-stopped", "no"), name


def test_ours_run_as_nobody_in_particular(services: dict[str, Any]) -> None:
    ours = services.keys() - OUTSIDE
    assert {"admin-api", "user-api", "worker-ocr", "beat", "mlflow"} <= ours
    for name in ours:
        service = services[name]
        assert service["user"] == "1000:1000" and service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_flower_speaks_with_the_broker_as_workers_do() -> None:
    """With other separators it hears nothing of what they answer."""
    told = runpy.run_path(str(ROOT / "docker/flower/celeryconfig.py"))
    ours = transport_options("redis://redis", folder=Path(), visibility_timeout=1)
    del ours["visibility_timeout"]
    assert told["broker_transport_options"] == ours


def test_only_the_user_api_is_without_console(services: dict[str, Any]) -> None:
    assert services["user-api"]["environment"]["URLS"] == "user"
    assert services["admin-api"]["environment"]["URLS"] == "all"


def test_ports_are_this_machines_own(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) >= 4
    for port in ports:
        assert re.match(r"127\.0\.0\.1:|\$\{\w+:-127\.0\.0\.1:", port), port
    # What holds data is reached from inside alone.
    for name in ("postgres", "redis", "qdrant", "cerbos"):
        assert "ports" not in services[name] and services[name]["networks"] == ["inside"]


def test_what_the_public_reaches_sees_no_database(services: dict[str, Any]) -> None:
    inside = {"postgres", "redis"}
    for name in inside:
        assert services[name]["networks"] == ["inside"]
    for name in ("nginx", "ocr-model-server", "llm-model-server"):
        assert services[name]["networks"] == ["outside"], name
    networks = yaml.safe_load((ROOT / "compose.yml").read_text())["networks"]
    assert networks["inside"]["internal"]


def test_models_are_the_hosts_or_a_volumes(services: dict[str, Any]) -> None:
    """One place for the hub's cache, whoever reads it."""
    found = {
        name: volume
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if volume.endswith(":/models/huggingface")
    }
    assert {"worker-ocr", "worker-llm", "worker-train", "llm-model-server"} <= found.keys()
    assert set(found.values()) == {"${HF_CACHE:-hf_cache}:/models/huggingface"}


@pytest.mark.parametrize("model", ["", "/models/a model"])
def test_the_model_server_says_what_it_misses(
    services: dict[str, Any], tmp_path: Path, model: str
) -> None:
    """Its command as compose hands it on, with a python that tells its arguments."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    command = [part.replace("$$", "$") for part in services["llm-model-server"]["command"]]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LLM_MODEL_SERVER_MODEL": model}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if model:
        said = ["manage.py", "serve_llm", model, "--host", "0.0.0.0"]
        assert done.stdout.splitlines() == said
    else:
        assert done.returncode != 0 and not done.stdout
        assert "LLM_MODEL_SERVER_MODEL: set it in .env" in done.stderr


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "compose.yml").read_text()
    secrets = re.findall(
        r"\$\{(\w*(?:PASSWORD|SECRET_KEY|SECRET|TOKEN|API_KEY))(:[-?])([^}]*)", text
    )
    assert {"SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"} <= {one[0] for one in secrets}
    for name, operator, rest in secrets:
        assert "make env" in rest if operator == ":?" else rest == "", name
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"):
        assert f"${{{name}:-" not in text, name


def test_env_makes_secrets_once(tmp_path: Path) -> None:
    file = tmp_path / ".env"

    def run() -> dict[str, str]:
        subprocess.run(["bash", ROOT / "docker/env.sh", file], check=True, capture_output=True)
        return dict(line.split("=", 1) for line in file.read_text().splitlines())

    file.write_text("SECRET_KEY=\nPOSTGRES_PASSWORD=kept\n")
    made = run()
    assert file.stat().st_mode & 0o777 == 0o600
    assert made["POSTGRES_PASSWORD"] == "kept"
    assert len(made["SECRET_KEY"]) >= 50 and len(made["REDIS_PASSWORD"]) >= 32
    assert len(set(made.values())) == len(made)
    assert run() == made
    # All that compose.yml can't do without is there.
    needed = set(re.findall(r"(?<!\$)\$\{(\w+):\?", (ROOT / "compose.yml").read_text()))
    assert needed <= made.keys()


def health(**env: str) -> int:
    path = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", ROOT / "docker/health.sh"], env=path | env, capture_output=True, check=False
    )
    return done.returncode


def test_health_is_a_young_file(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert health(ALIVE_FILE=str(file)) != 0
    file.touch()
    assert health(ALIVE_FILE=str(file)) == 0
    old = time.time() - 300
    os.utime(file, (old, old))
    assert health(ALIVE_FILE=str(file)) != 0
    assert health(ALIVE_FILE=str(file), ALIVE_SECONDS="600") == 0


def test_health_is_an_address_that_answers() -> None:
    assert health(HEALTH_URL="http://127.0.0.1:9/health", ALIVE_FILE="/") != 0


@pytest.mark.parametrize("wheels", [[], ["a-1-py3-none-any.whl"]])
def test_where_packages_come_from(tmp_path: Path, wheels: list[str]) -> None:
    """install.sh with other folders than the image's, and a uv that tells its arguments."""
    folder, tools = tmp_path / "wheels", tmp_path / "installer"
    folder.mkdir()
    for name in wheels:
        (folder / name).touch()
    for place, text in (("installer/bin/uv", 'echo "$@"'), ("venv/bin/python", "true")):
        program = tmp_path / place
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    script = (ROOT / "docker/install.sh").read_text()
    script = script.replace("/wheels", str(folder)).replace("/opt/installer", str(tools))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script, "install.sh", "--index", "https://torch.example", "torch==2"],
            env={"PATH": os.environ["PATH"], "VIRTUAL_ENV": str(tmp_path / "venv")},
            capture_output=True,
            text=True,
            check=False,
        )

    said = run().stdout
    assert said.startswith("pip install --only-binary :all:") and "torch==2" in said
    assert ("--find-links" in said) == bool(wheels) and "--index https://torch.example" in said
    assert "--no-index" not in said
    # A whole set, with its hashes: no index is asked, and one wrong byte ends the build.
    (folder / "b-1-py3-none-any.whl").write_text("content")
    sums = subprocess.check_output("sha256sum *.whl", shell=True, cwd=folder, text=True)
    (folder / "SHA256SUMS").write_text(sums)
    said = run().stdout
    assert "--no-index" in said and "--index https" not in said.replace("--no-index", "")
    (folder / "b-1-py3-none-any.whl").write_text("other content")
    assert run().returncode != 0
