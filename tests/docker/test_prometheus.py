"""Prometheus itself, with our files, asking a running platform; and the dashboard's questions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from llm.serving.metrics import Metrics as LlmMetrics
from ocr.serving.metrics import Metrics as OcrMetrics
from tests.environment import ROOT
from tests.factories import png
from tests.services import MissingProgram, RedisServer, Server, free_port, wait_for
from tests.stack import Stack

FOLDER = ROOT / "docker/prometheus"
DASHBOARD = ROOT / "docker/grafana/dashboards/platform.json"
TOKEN = "a-token-of-prometheus"
PATIENCE = 90


class PrometheusServer(Server):
    """Prometheus with the product's own files, changed in nothing but places and times."""

    def __init__(self, platform: str) -> None:
        self.program = shutil.which("prometheus")
        if self.program is None:
            raise MissingProgram("prometheus", "prometheus")
        super().__init__()
        self.port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        # Not shorter: on a machine that is busy the page may take seconds.
        config["global"] |= {"scrape_interval": "5s", "scrape_timeout": "5s"}
        config["global"]["evaluation_interval"] = "1s"
        config["rule_files"] = [str(self.folder / "rules.yml")]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        (self.folder / "token").write_text(TOKEN)
        jobs["platform"]["authorization"]["credentials_file"] = str(self.folder / "token")
        jobs["platform"]["static_configs"][0]["targets"] = [platform]
        config["scrape_configs"] = [jobs["platform"]]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = yaml.safe_load((FOLDER / "rules.yml").read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        (self.folder / "rules.yml").write_text(yaml.safe_dump(rules))

    def command(self) -> list[str]:
        return [
            *(self.program, f"--config.file={self.folder}/prometheus.yml"),
            *(f"--storage.tsdb.path={self.folder}/data", "--log.level=warn"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def is_ready(self) -> bool:
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The answer's series. Fails on a query that Prometheus does not understand."""
        answer = self.client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]["result"]

    def value(self, query: str) -> float | None:
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[tuple[str, str]]:
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {
            (one["labels"]["alertname"], one["labels"].get("queue", ""))
            for one in alerts
            if one["state"] == "firing"
        }

    def close(self) -> None:
        self.client.close()
        super().close()


@pytest.fixture(scope="module")
def platform(redis_server: RedisServer) -> Iterator[Stack]:
    """A web process with a Redis, and no worker."""
    redis_server.wipe()
    with Stack(REDIS_URL=redis_server.url, METRICS_TOKEN=TOKEN) as stack:
        stack.web()
        yield stack


@pytest.fixture(scope="module")
def prometheus(platform: Stack) -> Iterator[PrometheusServer]:
    try:
        server = PrometheusServer(f"127.0.0.1:{platform.port}")
    except MissingProgram as error:
        pytest.fail(str(error), pytrace=False)
    with server:
        yield server


def test_it_sees_what_waits_and_raises_the_alarm(
    platform: Stack, prometheus: PrometheusServer
) -> None:
    query = 'mlops_jobs{kind="ocr.extract_text", queue="ocr", status="queued"}'
    for shade in (10, 20):
        sent = platform.client.post(
            "/api/v1/ocr/jobs", files={"file": ("page.png", png(shade=shade))}
        )
        assert sent.status_code in (201, 202), sent.text
    assert wait_for(lambda: prometheus.value(query) == 2, PATIENCE), prometheus.log()
    assert wait_for(lambda: prometheus.value('up{job="platform"}') == 1, PATIENCE)
    assert wait_for(lambda: ("QueueWithoutWorker", "ocr") in prometheus.firing(), PATIENCE)
    # No other queue has work, and the parts are well.
    alerts = prometheus.firing()
    assert {queue for alert, queue in alerts if alert == "QueueWithoutWorker"} == {"ocr"}
    assert not {"PartDown", "WebErrors"} & {alert for alert, _queue in alerts}
    # Requests are counted by way of Redis, of whichever process.
    posts = 'mlops_http_requests_total{method="POST", route=~"/api/v1/ocr/jobs/?"}'
    assert wait_for(lambda: prometheus.value(f"sum({posts})") == 2, PATIENCE)


def words(text: str, names: tuple[str, ...]) -> set[str]:
    """The metrics that a query names."""
    return set(re.findall(rf"\b(?:{'|'.join(names)})_\w+", text))


@pytest.fixture(scope="module")
def known(platform: Stack) -> set[str]:
    """Every name that the platform and its model servers may show, of kinds that have none yet."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    texts = [platform.client.get("/metrics", headers=headers).text]
    texts += [metrics.text().decode() for metrics in (OcrMetrics(), LlmMetrics())]
    endings = {
        "counter": ["_total"],
        "histogram": ["_bucket", "_sum", "_count"],
        "gauge": [""],
        "info": ["_info"],
    }
    return {
        family.name + ending
        for text in texts
        for family in text_string_to_metric_families(text)
        for ending in endings[family.type]
    }


def test_every_alert_asks_for_what_there_is(known: set[str]) -> None:
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(found) >= 10
    manual = (ROOT / "docs/monitoring.md").read_text()
    for rule in found:
        assert words(rule["expr"], ("mlops",)) <= known, rule["alert"]
        assert rule["expr"] == "up == 0" or words(rule["expr"], ("mlops",)), rule["alert"]
        assert rule["annotations"]["todo"] and f"| `{rule['alert']}` |" in manual


def test_the_dashboard_asks_for_what_there_is(
    prometheus: PrometheusServer, known: set[str]
) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(queries) >= 30
    sources = yaml.safe_load(
        (ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    (uid,) = {one["uid"] for one in sources["datasources"]}
    for panel in panels:
        assert panel["datasource"]["uid"] == uid
        # What is drawn lies beside the others, on Grafana's 24 columns.
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
    for query in queries:
        assert words(query, ("mlops", "ocr", "llm")) <= known, query
        prometheus.ask(query.replace("$__rate_interval", "1m"))


def test_every_metric_is_in_the_manual(known: set[str]) -> None:
    """By its name, or by the end of it where a row names several."""
    manual = set(re.findall(r"`(\w+)", (ROOT / "docs/monitoring.md").read_text()))
    for name in known:
        plain = re.sub(r"_(bucket|sum|count)$", "", name)
        if plain.startswith("mlops_"):
            ends = [end for end in manual if end.startswith("_") and plain.endswith(end)]
            assert plain in manual or ends, plain


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
)
def test_promtool(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool not found. Install it: apt-get install -y prometheus"
    done = subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    rules = (FOLDER / "rules.yml").read_text()
    tried = (FOLDER / "rules_test.yml").read_text()
    for name in re.findall(r"alert: (\w+)", rules):
        assert re.search(rf"alertname: {name}\n\s+exp_alerts:\n\s+- exp_labels", tried), name


def test_compose_and_prometheus_agree(tmp_path: Path) -> None:
    """Each target is a service on its port, and the tokens are where they are looked for."""
    services = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            assert set(found["names"]) <= services.keys()
            ports = " ".join(services[found["names"][0]]["ports"])
            assert ports.endswith(f":{found['port']}"), ports
    assert "admin-api" in services["admin-api"]["environment"]["ALLOWED_HOSTS"].split(",")
    assert services["prometheus"]["read_only"] and services["grafana"]["read_only"]
    # The container's own first lines, with folders and a program of ours.
    script = services["prometheus"]["command"][0].replace("$$", "$")
    program = tmp_path / "prometheus"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", script.replace("/tmp/", f"{tmp_path}/")],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            **{"METRICS_TOKEN": "a b", "MODEL_SERVER_TOKEN": "", "RETENTION": "3d"},
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--storage.tsdb.retention.time=3d" in done.stdout
    wanted = {
        Path(job["authorization"]["credentials_file"]).name
        for job in config["scrape_configs"]
        if "authorization" in job
    }
    assert wanted == {"metrics_token", "model_server_token"}
    assert (tmp_path / "metrics_token").read_text() == "a b"
    assert (tmp_path / "metrics_token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "model_server_token").read_text() == ""
