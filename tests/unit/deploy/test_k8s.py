"""deploy/k8s against Kubernetes' schemas and against our own rules, offline."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.topics import parser
from services.runtime.settings import load
from tests.unit.deploy.deployed import SETTINGS, health_name, problems

FOLDER = Path(__file__).parents[3] / "deploy" / "k8s"
VERSION = "1.37.0"
Manifest = dict[str, Any]
KUSTOMIZATION: Manifest = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
MANIFESTS: list[Manifest] = [
    document
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]


def title(value: object) -> str:
    match value:
        case {"kind": kind, "metadata": {"name": name}}:
            return f"{kind}/{name}"
        case (_, {"name": name}):
            return str(name)
    return ""


def of(*kinds: str) -> list[Manifest]:
    return [manifest for manifest in MANIFESTS if manifest["kind"] in kinds]


WORKLOADS = of("Deployment", "StatefulSet")
PODS: list[Manifest] = [workload["spec"]["template"] for workload in [*WORKLOADS, *of("Job")]]
CONTAINERS: list[tuple[Manifest, Manifest]] = [
    (pod, container) for pod in PODS for container in pod["spec"]["containers"]
]
SERVING = [(pod, container) for pod, container in CONTAINERS if container["name"] != "topics"]
CONFIG: dict[str, str] = next(m["data"] for m in of("ConfigMap"))


def labels(pod: Manifest) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"]["labels"]
    return found


def selects(selector: Manifest, pod: Manifest) -> bool:
    wanted: dict[str, str] = selector.get("matchLabels", selector)
    return wanted.items() <= labels(pod).items()


def module(container: Manifest) -> str:
    image = container["image"].removeprefix("axbridge/").split(":")[0]
    command: list[str] = container.get("command", ["python", "-m", f"services.{image}"])
    assert command[:2] == ["python", "-m"]
    assert command[2].startswith(f"services.{image}")  # the image holds no other service
    return command[2]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=title)
def test_the_schema_is_kept_strictly(manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_a_misspelt_field_is_refused() -> None:
    wrong = {**of("Service")[0], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_kustomization_lists_every_file_and_pins_every_image() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert sorted(KUSTOMIZATION["resources"]) == sorted(files)
    assert set(KUSTOMIZATION) == {"apiVersion", "kind", "namespace", "resources", "images"}
    tags = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    for _, container in CONTAINERS:
        name, tag = container["image"].split(":")
        assert tags[name] == tag
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag)


def test_names_are_unique_and_in_our_namespace() -> None:
    names = [title(manifest) for manifest in MANIFESTS]
    assert len(names) == len(set(names))
    for manifest in MANIFESTS:
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == KUSTOMIZATION["namespace"]


def test_every_process_is_deployed() -> None:
    assert sorted(module(container) for _, container in SERVING) == sorted(SETTINGS)


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: labels(pod)["app.kubernetes.io/name"])
def test_pods_have_no_root_no_token_and_no_room_to_write(pod: Manifest) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # they would look like settings of ours
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    accounts = {a["metadata"]["name"]: a for a in of("ServiceAccount")}
    assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@pytest.mark.parametrize("served", SERVING, ids=title)
def test_probes_ask_the_ports_that_the_process_opens(served: tuple[Manifest, Manifest]) -> None:
    _, container = served
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    settings = SETTINGS[module(container)]
    [health] = [name for name in ports if name.startswith("health")]
    assert env[health_name(settings)] == f"0.0.0.0:{ports[health]}"
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": health}
    if "grpc" in ports:
        assert env[f"{settings.model_config['env_prefix']}LISTEN"] == f"0.0.0.0:{ports['grpc']}"
        assert container["readinessProbe"]["grpc"] == {"port": ports["grpc"]}
    else:
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": health}


def test_containers_of_one_pod_share_no_port() -> None:
    for pod in PODS:
        ports = [p for c in pod["spec"]["containers"] for p in c.get("ports", [])]
        assert len({port["containerPort"] for port in ports}) == len(ports)
        assert len({port["name"] for port in ports}) == len(ports)


@pytest.mark.parametrize("served", SERVING, ids=title)
def test_env_names_are_settings_and_values_are_accepted(
    served: tuple[Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, container = served
    names = [entry["name"] for entry in container["env"]]
    assert problems(module(container), set(names)) == []
    assert len(names) == len(set(names))
    for name, value in values(container):
        monkeypatch.setenv(name, value)
    settings = load(SETTINGS[module(container)])
    readiness = container["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    if "grpc" in readiness:
        assert settings.drain_seconds >= noticed
    ended = settings.drain_seconds + settings.grace_seconds
    assert pod["spec"]["terminationGracePeriodSeconds"] >= ended + 10


def values(container: Manifest) -> Iterator[tuple[str, str]]:
    for entry in container["env"]:
        match entry:
            case {"name": name, "value": value}:
                yield name, value
            case {"name": name, "valueFrom": {"configMapKeyRef": {"name": "axbridge", "key": key}}}:
                yield name, CONFIG[key]
            case {"name": name, "valueFrom": {"secretKeyRef": {"name": "axbridge-redis"}}}:
                yield name, "rediss://valkey:6379/0"
            case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}:
                yield name, "router-0"
            case _:
                raise AssertionError(entry)


def test_every_value_of_the_config_map_is_used() -> None:
    used = {
        entry["valueFrom"]["configMapKeyRef"]["key"]
        for _, container in CONTAINERS
        for entry in container["env"]
        if "configMapKeyRef" in entry.get("valueFrom", {})
    }
    assert used == set(CONFIG)


@pytest.mark.parametrize("served", CONTAINERS, ids=title)
def test_mounts_have_volumes_and_cover_the_folders_in_the_settings(
    served: tuple[Manifest, Manifest],
) -> None:
    pod, container = served
    [owner] = [m for m in [*WORKLOADS, *of("Job")] if m["spec"]["template"] is pod]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | {
        claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) <= volumes
    for _, value in values(container):
        if value.startswith("/"):
            assert any(value == path or value.startswith(f"{path}/") for path in mounts), value


def test_the_private_evidence_key_is_nowhere() -> None:
    texts = [path.read_text("utf-8") for path in FOLDER.glob("*.yaml")]
    assert not any("evidence-private" in text for text in texts)
    assert not of("Secret")


@pytest.mark.parametrize("workload", WORKLOADS, ids=title)
def test_each_workload_has_its_budget_spread_and_service(workload: Manifest) -> None:
    spec, pod = workload["spec"], workload["spec"]["template"]
    assert selects(spec["selector"], pod)
    [budget] = [b for b in of("PodDisruptionBudget") if selects(b["spec"]["selector"], pod)]
    assert budget["spec"]["maxUnavailable"] == 1
    for spread in pod["spec"]["topologySpreadConstraints"]:
        assert selects(spread["labelSelector"], pod)
    ports = {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
    services = [s["spec"] for s in of("Service") if selects(s["spec"]["selector"], pod)]
    assert all(port["targetPort"] in ports for s in services for port in s["ports"])
    headless = [s for s in services if s.get("clusterIP") == "None"]
    assert len(headless) == (workload["kind"] == "StatefulSet")
    if headless:
        names = [m["metadata"]["name"] for m in of("Service") if m["spec"] is headless[0]]
        assert names == [spec["serviceName"]]


def test_how_many_run() -> None:
    replicas = {m["metadata"]["name"]: m["spec"]["replicas"] for m in WORKLOADS}
    single = {"router-records": 1, "router-push": 1, "audit": 1}
    assert replicas == {"allocator": 2, "binding": 2, "router": 3, **single}
    [router] = [m for m in WORKLOADS if m["metadata"]["name"] == "router"]
    assert router["spec"]["podManagementPolicy"] == "Parallel"


def test_only_the_edges_of_the_architecture_are_open() -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in of("NetworkPolicy")}
    assert policies.pop("default-deny") == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    edges: set[tuple[str, str]] = set()
    for name, spec in policies.items():
        chosen = [
            labels(p)["app.kubernetes.io/name"] for p in PODS if selects(spec["podSelector"], p)
        ]
        assert chosen, name
        edges |= {(name, who) for who in chosen}
    everyone = {labels(pod)["app.kubernetes.io/name"] for pod in PODS}
    assert edges == {
        *(("dns", who) for who in everyone),
        *(("to-kafka", who) for who in everyone),
        ("to-valkey", "allocator"),
        ("to-valkey", "binding"),
        ("binding-to-allocator", "binding"),
        ("push-to-platforms", "router-push"),
        *((f"clients-to-{who}", who) for who in ("allocator", "binding", "router", "audit")),
    }


def test_the_topics_job_speaks_the_language_of_its_program() -> None:
    [job] = of("Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "deploy.topics"]
    given = dict(values(container))
    text = [re.sub(r"\$\((\w+)\)", lambda m: given[m[1]], part) for part in container["args"]]
    args = parser().parse_args(text)
    assert (args.partitions, args.replication) == (64, 3)
    assert args.bootstrap == CONFIG["kafka-bootstrap"]
