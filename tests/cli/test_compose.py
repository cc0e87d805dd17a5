"""docker-compose.yml names settings that exist and commands that exist."""

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from app.cli.main import app
from app.cli.settings import environment_names
from app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {
    name: service
    for name, service in COMPOSE["services"].items()
    if service["image"] in ("policysplit", "policysplit-gpu")
}
GPU = {"worker-gpu", "inference-gpu"}
VARIABLES = {
    variable for name, field in Settings.model_fields.items() for variable in environment_names(name, field)
}


def test_it_has_every_part() -> None:
    assert OURS.keys() == {"migrate", "api", "worker", "inference"} | GPU
    assert COMPOSE["services"].keys() - OURS.keys() == {"postgres", "redis"}


@pytest.mark.parametrize("part", OURS)
def test_a_part_runs_a_command_that_exists(part: str) -> None:
    program, command, *rest = OURS[part]["command"]
    assert (program, rest) == ("policysplit", [])
    group = typer.main.get_group(app)
    assert command in group.commands


@pytest.mark.parametrize("part", OURS)
def test_a_part_is_given_settings_that_are_read(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = OURS[part]["environment"]
    assert environment.keys() <= VARIABLES
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.database_url.startswith("postgresql://")
    assert settings.broker_url == "redis://redis:6379/0"
    assert settings.data_dir == Path("/data")


def test_parts_share_one_data_volume_and_wait_for_the_schema() -> None:
    for name, service in OURS.items():
        assert service["volumes"] == ["data:/data"]
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_gpu_parts_are_asked_for_and_get_a_device() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name, service in OURS.items():
        assert (service.get("profiles") == ["gpu"]) == (name in GPU)
        if name in GPU:
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert device["capabilities"] == ["gpu"]
            (argument,) = service["build"]["args"]
            assert f"ARG {argument}=" in dockerfile and f"${{{argument}}}" in dockerfile


def test_everything_that_runs_on_is_watched() -> None:
    for name, service in COMPOSE["services"].items():
        assert ("healthcheck" in service) == (name != "migrate"), name
    for name in ("worker", "worker-gpu"):
        ready = OURS[name]["environment"]["POLICYSPLIT_READY_FILE"]
        assert f"cat {ready}" in OURS[name]["healthcheck"]["test"][1]
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


def test_the_image_gets_every_package_of_ours() -> None:
    copied = {
        line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:5] == "COPY "
    }
    assert {"app", "migrations", "trainer", "worker"} <= copied
