"""docker-compose.yml names settings that exist and commands that exist."""

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from app.cli.main import app
from app.cli.settings import environment_names
from app.core.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service["image"] in ("policysplit", "policysplit-trainer", "policysplit-gpu")
}
GPU = {"worker-gpu", "inference-gpu"}
MONITORING = {"prometheus", "grafana"}
VARIABLES = {
    variable for name, field in Settings.model_fields.items() for variable in environment_names(name, field)
}


def test_it_has_every_part() -> None:
    assert OURS.keys() == {"migrate", "api", "worker", "inference"} | GPU
    assert COMPOSE["services"].keys() - OURS.keys() == {"postgres", "redis", "seaweedfs"} | MONITORING
    for name in MONITORING:
        assert COMPOSE["services"][name]["profiles"] == ["monitoring"], "it starts where it is asked for"
    assert COMPOSE["services"]["seaweedfs"]["profiles"] == ["store"]


@pytest.mark.parametrize("part", OURS)
def test_a_part_runs_a_command_that_exists(part: str) -> None:
    program, *words = OURS[part]["command"]
    assert program == "policysplit"
    group: Any = typer.main.get_group(app)
    for word in words:
        assert word in group.commands
        group = group.commands[word]


@pytest.mark.parametrize("part", OURS)
def test_a_part_is_given_settings_that_are_read(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = OURS[part]["environment"]
    # The store's keys are read by who talks to it, under the names that it has for them.
    assert {name for name in environment if not name.startswith("AWS_")} <= VARIABLES
    given = {"POLICYSPLIT_SEALING_KEYS": '["a"]', "POLICYSPLIT_STORE": "s3://policysplit/service"}
    for name, value in (environment | given).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.database_url.startswith("postgresql://")
    assert settings.broker_url == "redis://redis:6379/0"
    assert settings.data_dir == Path("/data")


def test_parts_share_no_folder_but_a_store_and_wait_for_the_schema() -> None:
    control = {"migrate", "api"}
    volumes = {name: service["volumes"] for name, service in OURS.items()}
    assert {name for name, mounted in volumes.items() if mounted == ["control:/data"]} == control
    for name in OURS.keys() - control:
        assert volumes[name] == [f"{name}:/data"], "a folder of its own"
    assert {mounted.partition(":")[0] for (mounted,) in volumes.values()} < COMPOSE["volumes"].keys()
    for name, service in OURS.items():
        for shared in ("POLICYSPLIT_STORE", "POLICYSPLIT_SEALING_KEYS", "POLICYSPLIT_INFERENCE_TOKEN"):
            assert service["environment"][shared] == f"${{{shared}:?set it in .env}}"
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_no_part_of_ours_has_or_gets_a_privilege() -> None:
    for name, service in OURS.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and "privileged" not in service, (
            name
        )
    assert OURS["api"]["read_only"] is True and OURS["api"]["tmpfs"] == ["/tmp"]
    assert "USER policysplit" in (ROOT / "Dockerfile").read_text()


def test_gpu_parts_are_asked_for_and_get_a_device() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name, service in OURS.items():
        assert (service.get("profiles") == ["gpu"]) == (name in GPU)
        if name in GPU:
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert device["capabilities"] == ["gpu"]
            (argument,) = service["build"]["args"]
            assert f"ARG {argument}=" in dockerfile and f"${{{argument}}}" in dockerfile


@pytest.mark.parametrize("part", OURS)
def test_a_part_is_made_from_the_image_that_has_what_it_needs(part: str) -> None:
    torch_free = OURS[part]["command"][1] in ("api", "migrate")
    assert OURS[part]["build"]["target"] == ("control-plane" if torch_free else "trainer")
    steps = stages()[OURS[part]["build"]["target"]]
    assert any("torch" in step for step in steps) != torch_free


def test_everything_that_runs_on_is_watched() -> None:
    for name, service in COMPOSE["services"].items():
        assert ("healthcheck" in service) == (name != "migrate"), name
    scraped = yaml.safe_load((ROOT / "docs/monitoring/prometheus.yml").read_text())["scrape_configs"]
    targets = {
        name: one["port"] for job in scraped for one in job.get("dns_sd_configs", []) for name in one["names"]
    }
    assert targets.keys() == OURS.keys() - {"migrate", "api"}
    for name, port in targets.items():
        kind = "WORKER" if name.startswith("worker") else "INFERENCE"
        assert OURS[name]["environment"][f"POLICYSPLIT_{kind}_METRICS_PORT"] == str(port)
        assert OURS[name]["environment"]["POLICYSPLIT_METRICS_HOST"] == "0.0.0.0"
        if kind == "WORKER":
            assert f":{port}/healthz" in OURS[name]["healthcheck"]["test"][-1]
    port = OURS["inference"]["environment"]["POLICYSPLIT_INFERENCE_PORT"]
    assert f":{port}/healthz" in OURS["inference"]["healthcheck"]["test"][-1]
    assert OURS["inference-gpu"]["environment"]["POLICYSPLIT_INFERENCE_URL"].endswith(f"inference-gpu:{port}")


def test_redis_keeps_every_message() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def test_a_stopping_worker_has_time_for_its_checkpoint() -> None:
    seconds = float(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings.model_fields["checkpoint_grace_seconds"].default


def stages() -> dict[str, list[str]]:
    """The Dockerfile's lines by the image that they are for."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("FROM "):
            found[line.split()[-1]] = []
        elif line and line[0] != "#":
            found[list(found)[-1]].append(line)
    return found


def test_the_images_get_every_package_of_ours_and_what_an_installation_reads() -> None:
    images = stages()
    assert images.keys() == {"base", "control-plane", "trainer"}
    for name in images.keys() - {"base"}:
        copied = {word for line in images[name] if line[:5] == "COPY " for word in line.split()[1:-1]}
        assert copied == {
            "app",
            "migrations",
            "trainer",
            "worker",
            "pyproject.toml",
            "setup.py",
            "README.md",
            "LICENSE",
        }
