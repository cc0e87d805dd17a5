"""The manifests of docs/kubernetes: what Kubernetes takes, what our settings are, and no privilege."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from app.cli.main import app
from app.core.settings import Settings
from tests.cli.test_compose import VARIABLES

FOLDER = Path(__file__).parents[2] / "docs" / "kubernetes"
GUIDE = FOLDER.parent / "guides" / "kubernetes.md"
OVERLAYS = ("base", "gpu", "sandbox", "ray")
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="no kubectl, for kustomize: apt-get install kubernetes-client",
)
#: Read by the store's client and by libraries.
FOREIGN = {"AWS_REGION", "HOME", "POD_IP"}


@cache
def rendered(name: str) -> tuple[dict[str, Any], ...]:
    """What kustomize makes of an overlay."""
    done = subprocess.run(["kubectl", "kustomize", FOLDER / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def written() -> tuple[dict[str, Any], ...]:
    """The base and the console as they are written, before kustomize."""
    base = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())["resources"]
    texts = [FOLDER / "console.yaml", *(FOLDER / "base" / name for name in base)]
    return tuple(one for path in texts for one in yaml.safe_load_all(path.read_text()))


def pods(documents: tuple[dict[str, Any], ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in documents:
        if one["kind"] in ("Deployment", "Job", "Pod"):
            yield one["metadata"]["name"], one["spec"].get("template", one)["spec"]


def named(documents: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def test_what_is_written_is_of_the_schemas() -> None:
    for one in written():
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_made_of_it_is_too(overlay: str) -> None:
    documents = rendered(overlay)
    for one in documents:
        if one["kind"] != "RayCluster":
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    deployments = named(documents, "Deployment")
    assert deployments.keys() == {"api", "worker", "inference"}
    (settings,) = named(documents, "ConfigMap")
    for name, spec in pods(documents):
        (container,) = spec["containers"]
        assert container["envFrom"][0]["configMapRef"]["name"] == settings, name
        assert ":" in container["image"], "a version is named"
        assert spec.get("hostUsers", True) != (overlay == "sandbox" and name in ("api", "worker"))
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        assert bool(gpus) == (overlay == "gpu" and name in ("worker", "inference"))


def test_no_pod_has_or_gets_a_privilege_and_roots_are_read_only() -> None:
    for name, spec in pods(written()):
        around = spec["securityContext"]
        assert around["runAsNonRoot"] and around["runAsUser"] == 1000, name
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            within = container["securityContext"]
            assert within["readOnlyRootFilesystem"] and not within["allowPrivilegeEscalation"]
            assert within["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            mounted = {one["mountPath"] for one in container["volumeMounts"]}
            assert {"/data", "/tmp"} <= mounted
            volumes = {one["name"] for one in spec["volumes"]}
            assert {one["name"] for one in container["volumeMounts"]} == volumes


def test_pods_run_commands_and_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    kustomization = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    literals = dict(one.split("=", 1) for one in kustomization["configMapGenerator"][0]["literals"])
    group = typer.main.get_group(app)
    for name, spec in pods(written()):
        (container,) = spec["containers"]
        own = {one["name"]: one.get("value", "10.0.0.1") for one in container.get("env", [])}
        given = literals | {key: value.replace("$(POD_IP)", "10.0.0.1") for key, value in own.items()}
        assert given.keys() <= VARIABLES | FOREIGN, name
        if name != "console":
            program, command = container["args"]
            assert program == "policysplit" and command in group.commands
        with monkeypatch.context() as context:
            for key, value in given.items():
                context.setenv(key, value)
            settings = Settings()
        ports = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
        expected = {
            "api": {"http": settings.port},
            "worker": {"metrics": settings.worker_metrics_port},
            "inference": {"http": settings.inference_port, "metrics": settings.inference_metrics_port},
        }
        assert ports == expected.get(name, {})
        if name == "worker":
            assert spec["terminationGracePeriodSeconds"] > settings.checkpoint_grace_seconds


def test_what_selects_finds_what_it_is_for() -> None:
    documents = written()
    deployments = named(documents, "Deployment")
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in deployments.items()}
    for name, one in deployments.items():
        assert one["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
        probes = one["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            request = probes[probe]["httpGet"]
            assert request["path"] in ("/healthz", "/readyz")
            assert request["port"] in {port["name"] for port in probes["ports"]}
    for name, one in named(documents, "PodDisruptionBudget").items():
        assert one["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    assert named(documents, "PodDisruptionBudget").keys() == deployments.keys()
    (service,) = named(documents, "Service").values()
    assert service["spec"]["selector"].items() <= labels["api"].items()
    policies = named(documents, "NetworkPolicy")
    assert policies["nothing-else"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policies["nothing-else"]["spec"], "what no other policy names does not reach them"
    rules = [rule for one in policies.values() for rule in one["spec"].get("ingress", [])]
    ports = {port["port"] for rule in rules for port in rule["ports"]}
    assert ports == {"http", "metrics"}


def test_the_guide_makes_every_secret_that_the_parts_take() -> None:
    text = GUIDE.read_text()
    for variable in (
        *("DATABASE_URL", "BROKER_URL", "POLICYSPLIT_INFERENCE_TOKEN", "POLICYSPLIT_SEALING_KEYS"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"),
    ):
        assert f"--from-literal={variable}=" in text


# --- the Ray cluster: its pods by Kubernetes' schema, what is around them by these lists --------------------

#: Fields of KubeRay's resource, from 1.5 on, that are used here.
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
RAY_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def ray_pods() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The groups of the Ray cluster, head first, and their pods' templates, as kustomize gives them."""
    (cluster,) = named(rendered("ray"), "RayCluster").values()
    assert cluster["apiVersion"] == "ray.io/v1"
    assert cluster["spec"].keys() <= RAY_CLUSTER
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": "policysplit-ray"}
    head, groups = cluster["spec"]["headGroupSpec"], cluster["spec"]["workerGroupSpecs"]
    assert head.keys() == {"rayStartParams", "template"} and all(one.keys() <= RAY_GROUP for one in groups)
    for one in (head, *groups):
        yield one, one["template"]


@needs_kubectl
def test_pods_of_the_ray_cluster_are_of_the_schemas_and_have_no_privilege_and_no_secret() -> None:
    for group, template in ray_pods():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        spec = template["spec"]
        around, (container,) = spec["securityContext"], spec["containers"]
        assert around["runAsNonRoot"] and around["runAsUser"] == 1000
        assert around["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        within = container["securityContext"]
        assert within["readOnlyRootFilesystem"] and not within["allowPrivilegeEscalation"]
        assert within["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "envFrom" not in container and {one["name"] for one in container["env"]} == {"HOME"}
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in spec["volumes"]}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert container["image"] == "policysplit-ray:0.1.0"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"][:2] == ["ray", "health-check"]


@needs_kubectl
def test_workers_are_drivers_on_the_ray_cluster_and_share_with_its_ranks_what_ranks_need() -> None:
    documents = rendered("ray")
    worker = named(documents, "Deployment")["worker"]["spec"]["template"]
    spec, (container,), (node,) = (
        worker["spec"],
        worker["spec"]["containers"],
        worker["spec"]["initContainers"],
    )
    environment = {one["name"]: one.get("value") for one in container["env"]}
    (name,) = named(documents, "RayCluster")
    address = environment["POLICYSPLIT_RAY_ADDRESS"]
    assert address == f"{name}-head-svc:6379", "the service that KubeRay makes for the head"
    assert f"--address={address}" in node["args"] and {"--num-cpus=0", "--num-gpus=0"} <= set(node["args"])
    assert node["restartPolicy"] == "Always" and node["image"] == container["image"]
    assert {"/tmp", "/dev/shm"} <= {one["mountPath"] for one in node["volumeMounts"]}
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    (gpu,) = (template for group, template in ray_pods() if group.get("groupName") == "gpu")
    assert claim in spec["volumes"] and claim in gpu["spec"]["volumes"]
    mounts = [one["volumeMounts"] for one in (container, gpu["spec"]["containers"][0])]
    assert all({"name": "data", "mountPath": "/data"} in one for one in mounts)
    assert named(documents, "PersistentVolumeClaim")["data"]["spec"]["accessModes"] == ["ReadWriteMany"]
    # The same pods are let through to each other, and behind the policy that shuts all others out.
    policy = named(documents, "NetworkPolicy")["ray-among-itself"]["spec"]
    among = policy["podSelector"]["matchLabels"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": among}}]}]
    for template in (worker, *(template for _, template in ray_pods())):
        assert among.items() <= template["metadata"]["labels"].items()
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "policysplit"
    assert "--from-literal=auth_token=" in GUIDE.read_text()
