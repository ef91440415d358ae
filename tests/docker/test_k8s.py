"""The manifests of docker/k8s: what the schemas say, and that what refers to something finds it."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.manifests import (
    K8S,
    OVERLAYS,
    POLICIES,
    Manifest,
    containers,
    environment,
    main,
    manifests,
    of_kind,
    pod,
    selected,
    validate,
    workloads,
)
from tests.environment import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]
PLATFORM = {
    *("admin-api", "user-api", "beat"),
    *("worker-default", "worker-ocr", "worker-llm", "worker-train"),
}
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


# -- by the schemas -------------------------------------------------------------------------


@each_overlay
def test_the_schemas_approve(overlay: str) -> None:
    assert len(manifests(overlay)) > 30
    # What an overlay has of another is the same there.
    own = [one for one in manifests(overlay) if overlay == "cpu" or one not in manifests("cpu")]
    assert validate.problems(own) == []


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("Deployment", "spec.template.spec.containers.0.readinesProbe", {}, "readinesProbe"),
        ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", "a minute", "integer"),
        ("NetworkPolicy", "apiVersion", "extensions/v1beta1", "has no extensions/v1beta1"),
        ("ScaledObject", "spec.minReplicas", 1, "minReplicas"),
        ("ScaledObject", "spec.triggers.0.metadata.targetQuery", "1", "targetQuery"),
        ("ScaledObject", "spec.triggers.0.metadata.targetQueryValue", 1, "not of type 'string'"),
        ("TriggerAuthentication", "spec.secretTargetRef.0.parameter", "database", "not one of"),
    ],
)
def test_what_is_misspelt_is_refused(kind: str, path: str, value: Any, said: str) -> None:
    changed = copy.deepcopy(next(iter(of_kind("cpu", kind).values())))
    place, *names = changed, *path.split(".")
    for name in names[:-1]:
        place = place[int(name) if name.isdigit() else name]
    place[names[-1]] = value
    (found,) = validate.problems([changed])
    assert said in found and kind in found


@pytest.mark.parametrize("version", ["Client Version: v1.20.2", "Kustomize Version: v4.2.0", ""])
def test_an_old_kustomize_is_refused(tmp_path: Path, version: str) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\necho '{version}'\n")
    kubectl.chmod(0o755)
    done = subprocess.run(
        [sys.executable, K8S / "validate.py"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and "apt-get install" in done.stderr


# -- what pods are given --------------------------------------------------------------------


def known_names() -> dict[str, set[str]]:
    """Service -> the variables that .env.example, health.sh or compose.yml know for it."""
    names = set(re.findall(r"^#?([A-Z]\w*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    names |= set(re.findall(r"\$\{?([A-Z]\w*)", (ROOT / "docker/health.sh").read_text()))
    return {
        name: names | set(service.get("environment", ())) for name, service in COMPOSE.items()
    } | {"postgres": {*COMPOSE["postgres"]["environment"], "PGDATA"}}


@each_overlay
def test_every_variable_is_known(overlay: str) -> None:
    known = known_names()
    for name, container in containers(overlay):
        assert environment(overlay, container).keys() <= known[name], name


@each_overlay
def test_services_are_set_up_as_in_compose(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    assert deployments.keys() == {*PLATFORM, "mlflow", *more(overlay)}
    for name, deployment in deployments.items():
        service, container = COMPOSE[name], main(deployment)
        # `command` would leave tini, which the images start with, out.
        assert "command" not in container
        assert container.get("args") == service.get("command"), name
        assert pod(deployment).get("terminationGracePeriodSeconds", 30) >= seconds(
            service.get("stop_grace_period", "10s")
        )
        image = re.sub(r"\$\{.*?\}|:.*", "", service["image"]).rpartition("/")[2]
        ours = container["image"].rpartition("/")[2].partition(":")[0]
        assert ours == (image if ours != "ocr-gpu" else "ocr-gpu"), name
        own = {"URLS", "DATABASE_POOL", "DATABASE_POOL_SIZE", "TRAINING_FOLDER", "HEALTH_URL"}
        own |= {"ALIVE_FILE", "ALIVE_SECONDS"}
        env = environment(overlay, container)
        assert {key: env[key] for key in own & env.keys()} == {
            key: value for key, value in service["environment"].items() if key in own
        }, name


def more(overlay: str) -> set[str]:
    return {"cerbos"} if overlay == POLICIES else set()


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


@each_overlay
def test_secrets_are_referred_to_and_documented(overlay: str) -> None:
    documented = {
        (file.stem, key)
        for file in (K8S / "secrets.example").glob("*.env")
        for key in re.findall(r"^(\w+)=", file.read_text(), re.MULTILINE)
    }
    if overlay == "dev":
        documented |= {("stores", key) for key in ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD")}
        documented |= {("stores", "REDIS_PASSWORD")}
    wanted = {
        (value["name"], value["key"])
        for _name, container in containers(overlay)
        for value in environment(overlay, container).values()
        if isinstance(value, dict)
    }
    for authentication in of_kind(overlay, "TriggerAuthentication").values():
        refs = authentication["spec"]["secretTargetRef"]
        wanted |= {(one["name"], one["key"]) for one in refs}
    assert wanted <= documented
    if overlay == "cpu":
        assert documented == wanted
    assert not of_kind(overlay, "Secret")


@each_overlay
def test_no_secret_has_a_value(overlay: str) -> None:
    for name, container in containers(overlay):
        for key, value in environment(overlay, container).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL|REDIS_URL|STORE_URI", key):
                assert isinstance(value, dict), f"{name}: {key}"


def dev_secrets() -> dict[str, dict[str, str]]:
    text = subprocess.check_output(["bash", K8S / "dev-secrets.sh"], text=True)
    made = list(yaml.safe_load_all(text))
    assert {one["kind"] for one in made} == {"Secret"}
    return {one["metadata"]["name"]: one["stringData"] for one in made}


def test_secrets_for_one_node_are_whole_and_new() -> None:
    made, again = dev_secrets(), dev_secrets()
    for _name, container in containers("dev"):
        for value in environment("dev", container).values():
            if isinstance(value, dict) and not value.get("optional"):
                assert made[value["name"]][value["key"]]
    assert made["stores"]["POSTGRES_PASSWORD"] in made["mlops"]["DATABASE_URL"]
    assert made["stores"]["MLFLOW_DB_PASSWORD"] in made["mlflow"]["MLFLOW_BACKEND_STORE_URI"]
    assert made["stores"]["REDIS_PASSWORD"] in made["mlops"]["REDIS_URL"]
    assert len(made["mlops"]["SECRET_KEY"]) >= 50
    for name, keys in made.items():
        assert all(again[name][key] != value for key, value in keys.items())


def test_the_database_is_made_as_in_compose() -> None:
    copied = (K8S / "overlays/dev/mlflow.sh").read_text()
    assert copied == (ROOT / "docker/postgres/mlflow.sh").read_text()


# -- what refers to something ---------------------------------------------------------------


def ports(workload: Manifest) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in main(workload).get("ports", ())}


@each_overlay
def test_services_lead_to_pods(overlay: str) -> None:
    services = of_kind(overlay, "Service")
    assert {"admin-api", "user-api", "mlflow"} <= services.keys()
    for name, service in services.items():
        selector = {"matchLabels": service["spec"]["selector"]}
        assert selected(overlay, selector) == {name}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports(workloads(overlay)[name])
    for ingress in of_kind(overlay, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            assert rule["host"] in ingress["spec"]["tls"][0]["hosts"]
            (path,) = rule["http"]["paths"]
            backend = path["backend"]["service"]
            offered = services[backend["name"]]["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in offered}


def test_only_a_site_that_wants_it_shows_the_console() -> None:
    assert of_kind("cpu", "Ingress").keys() == of_kind("gpu", "Ingress").keys() == {"user-api"}
    assert of_kind("site", "Ingress").keys() == {"user-api", "admin-api"}
    assert not of_kind("dev", "Ingress")
    for overlay in ("cpu", "gpu", "dev"):
        for policy in of_kind(overlay, "NetworkPolicy").values():
            if policy["spec"].get("ingress"):
                assert "admin-api" not in selected(overlay, policy["spec"]["podSelector"])


@each_overlay
def test_network_policies_mean_pods_and_their_ports(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    deny = policies["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in policies.items():
        chosen = selected(overlay, policy["spec"]["podSelector"])
        assert chosen, name
        for rule in policy["spec"].get("ingress", ()):
            if "ports" not in rule:
                # Trainers on several machines choose theirs, and speak with each other alone.
                assert name == "trainers" and chosen == {"worker-train"}
                assert [selected(overlay, one["podSelector"]) for one in rule["from"]] == [chosen]
            for port in rule.get("ports", ()):
                for one in chosen:
                    assert port["port"] in ports(workloads(overlay)[one]).values(), name
            check_peers(overlay, rule["from"])
        for rule in policy["spec"].get("egress", ()):
            check_peers(overlay, rule["to"])
            for one in rule["to"]:
                if "podSelector" in one:
                    there = selected(overlay, one["podSelector"])
                    offered = {
                        port for to in there for port in ports(workloads(overlay)[to]).values()
                    }
                    assert {port["port"] for port in rule["ports"]} <= offered, name


def check_peers(overlay: str, peers: list[Manifest]) -> None:
    for peer in peers:
        assert peer.keys() <= {"podSelector", "namespaceSelector", "ipBlock"}
        if "podSelector" in peer:
            assert selected(overlay, peer["podSelector"])


@each_overlay
def test_what_scales_and_protects_finds_its_deployment(overlay: str) -> None:
    deployments = of_kind(overlay, "Deployment")
    for name, budget in of_kind(overlay, "PodDisruptionBudget").items():
        assert selected(overlay, budget["spec"]["selector"]) == {name}
    assert of_kind(overlay, "PodDisruptionBudget").keys() == PLATFORM - {"beat"} | more(overlay)
    scaled = of_kind(overlay, "HorizontalPodAutoscaler", "ScaledObject")
    assert scaled.keys() == (set() if overlay == "dev" else PLATFORM - {"beat"})
    for name, one in scaled.items():
        assert one["spec"]["scaleTargetRef"]["name"] == name
        # Else each `apply` would put the number back.
        assert "replicas" not in deployments[name]["spec"]
    for name in ("beat", "mlflow"):
        assert deployments[name]["spec"]["replicas"] == 1
        assert deployments[name]["spec"]["strategy"] == {"type": "Recreate"}


@each_overlay
def test_probes_ask_ports_that_are_open(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        container = main(workload)
        assert "livenessProbe" in container
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            for way in ("httpGet", "tcpSocket"):
                if way in probe:
                    assert probe[way]["port"] in ports(workload), f"{name}: {kind}"
        if name.endswith("-api"):
            (host,) = container["readinessProbe"]["httpGet"]["httpHeaders"]
            allowed = environment(overlay, container)["ALLOWED_HOSTS"].split(",")
            assert host["name"] == "Host" and host["value"] in allowed
            assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


@each_overlay
def test_volumes_and_claims_are_there(overlay: str) -> None:
    claims = of_kind(overlay, "PersistentVolumeClaim").keys()
    maps = of_kind(overlay, "ConfigMap").keys()
    for name, workload in workloads(overlay).items():
        volumes = {one["name"]: one for one in pod(workload).get("volumes", ())}
        templates = workload["spec"].get("volumeClaimTemplates", ())
        known = volumes.keys() | {one["metadata"]["name"] for one in templates}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name
        for _name, container in containers(overlay):
            if _name == name:
                assert {one["name"] for one in container.get("volumeMounts", ())} <= known, name


# -- what every pod has ---------------------------------------------------------------------


@each_overlay
def test_pods_have_no_rights_and_are_bounded(overlay: str) -> None:
    accounts = of_kind(overlay, "ServiceAccount")
    for name, workload in workloads(overlay).items():
        spec = pod(workload)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        ours = name not in ("postgres", "redis")
        assert context["runAsUser"] == (1000 if ours else 999)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["serviceAccountName"] in accounts
    for name, container in containers(overlay):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][bound].keys(), name
        # A tag that stands still, and a registry's name unless the image is on the node already.
        image, _, tag = container["image"].rpartition(":")
        assert image and tag != "latest"
        if ours_without_registry(container["image"]):
            assert container["imagePullPolicy"] == "Never", name


def ours_without_registry(image: str) -> bool:
    return "/" not in image and not image.startswith(("postgres:", "redis:"))


@each_overlay
def test_nothing_starts_before_the_migrations(overlay: str) -> None:
    for name in PLATFORM:
        deployment = workloads(overlay)[name]
        (first,) = pod(deployment)["initContainers"]
        # The migrations that it waits for are those of the code that it starts.
        assert first["image"] == main(deployment)["image"]
        migrates = first["args"] == ["python", "manage.py", "migrate", "--no-input"]
        assert migrates == (name == "beat")
        if not migrates:
            assert first["args"][:2] == ["sh", "-c"]
            assert first["args"][2].startswith("until python manage.py migrate --check ")


def test_gpus_are_asked_for_where_models_are() -> None:
    for name, deployment in of_kind("gpu", "Deployment").items():
        limits = main(deployment)["resources"]["limits"]
        wanted = name in ("worker-ocr", "worker-llm", "worker-train")
        assert ("nvidia.com/gpu" in limits) == wanted, name
        assert ("nodeSelector" in pod(deployment)) == wanted
        assert ("-cuda12-" in main(deployment)["image"]) == wanted
        if wanted:
            (tolerated,) = pod(deployment)["tolerations"]
            assert tolerated["key"] == "nvidia.com/gpu"
            # A GPU that the old pod holds is not there for a new one beside it.
            assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
