"""Fetching base models by the API: from a hub on this machine, in the background, by those who may."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.settings import get_settings
from app.models.machine import needs
from app.models.pulling import Pulls
from app.models.schemas import ModelPull
from tests.fixtures.api import Api, ApiProcess, Keyed, on_sqlite
from tests.fixtures.described import check_described
from tests.fixtures.hub import TOKEN, Hub
from tests.fixtures.service import run_cli

JOB = {
    "environment": {"task": "chain_sum"},
    "method": {
        "type": "reinforcement",
        "reinforcement": {"grader": {"type": "environment", "task": "chain_sum"}},
    },
}


@pytest.fixture(autouse=True)
def hub_address(hub: Hub, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's hub is the one of the test, which has team/tiny."""
    hub.repositories["team/tiny"] = tiny_model
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)


def post(api: Api, name: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(f"{api.url}/v1/models/pull", json={"name": name}, headers=headers, timeout=60)


def until(api: Api, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The pull of a model when it is as wanted. It is a file: there is no event to wait for."""
    deadline = time.monotonic() + 60
    while True:
        answer = httpx.get(f"{api.url}/v1/models/pull/{name}")
        if answer.status_code == 200 and wanted(answer.json()):
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def over(pull: dict[str, Any]) -> bool:
    return pull["status"] != "running"


@on_sqlite
def test_a_model_is_fetched_in_the_background_and_a_job_can_start_from_it(
    api: Api, hub: Hub, tiny_model: Path
) -> None:
    missed = httpx.post(f"{api.url}/v1/fine_tuning/jobs", json={**JOB, "model": "team/tiny"})
    assert missed.status_code == 400
    for way in ("policysplit models pull NAME", "POST /v1/models/pull"):
        assert way in missed.json()["error"]["message"]

    asked = httpx.get(f"{api.url}/v1/models/available/team/tiny", timeout=60).json()
    size = sum(file.stat().st_size for file in tiny_model.iterdir())
    assert (asked["license"], asked["download_bytes"], asked["there"]) == ("mit", size, False)
    assert (
        asked["memory_to_ask_bytes"]
        < asked["memory_to_train_adapters_bytes"]
        < asked["memory_to_train_bytes"]
    )
    assert not any("/resolve/" in path for path in hub.asked), "asking fetches nothing"

    hub.held.clear()
    begun = post(api, "team/tiny")
    assert (begun.status_code, begun.json()["status"], begun.json()["license"]) == (202, "running", "mit")
    under_way = until(api, "team/tiny", lambda pull: (pull["done_bytes"] or 0) > 0 or over(pull))
    assert (under_way["status"], under_way["total_bytes"]) == ("running", size)
    assert under_way["done_bytes"] < size
    assert "team/tiny" not in httpx.get(f"{api.url}/v1/models").text, "there whole or not at all"
    assert post(api, "team/tiny").json()["created_at"] == begun.json()["created_at"], "one pull, not two"
    hub.held.set()

    done = until(api, "team/tiny", over)
    assert (done["status"], done["error"], done["done_bytes"]) == ("succeeded", None, size)
    assert httpx.get(f"{api.url}/v1/models/team/tiny").json()["root"] == "team/tiny"
    made = httpx.post(f"{api.url}/v1/fine_tuning/jobs", json={**JOB, "model": "team/tiny"})
    assert made.status_code == 200, made.text
    assert [one["id"] for one in httpx.get(f"{api.url}/v1/models/pull").json()["data"]] == ["team/tiny"]
    again = post(api, "team/tiny").json()
    assert (again["status"], again["stage"]) == ("succeeded", "already there")


@on_sqlite
def test_a_pull_that_was_cut_off_says_so_and_the_next_continues_it(
    api: Api, hub: Hub, tiny_model: Path
) -> None:
    weights = (tiny_model / "model.safetensors").stat().st_size
    hub.cut_after = [weights // 2, 0, 0, 0, 0]
    post(api, "team/tiny")
    broken = until(api, "team/tiny", over)
    assert (broken["status"], broken["error"]["code"]) == ("failed", "download_broke_off")
    assert f"{weights // 2:,} of {weights:,} bytes" in broken["error"]["message"]
    hub.cut_after = []
    assert post(api, "team/tiny").json()["status"] == "running"
    assert until(api, "team/tiny", over)["status"] == "succeeded"
    assert hub.ranges[-1] == f"bytes={weights // 2}-"


@on_sqlite
def test_a_pull_whose_process_is_gone_is_not_running(api: Api) -> None:
    """As after kill -9 of the service: what it said last stays, and nobody holds its lock."""
    folder = get_settings().models_dir / ".pulls"
    folder.mkdir()
    (folder / "team%2Ftiny.json").write_text(
        '{"name": "team/tiny", "status": "running", "stage": "downloading", "started_at": 1.0}'
    )
    found = httpx.get(f"{api.url}/v1/models/pull/team/tiny").json()
    assert (found["status"], found["error"]["code"]) == ("failed", "interrupted")
    assert post(api, "team/tiny").json()["status"] == "running"
    assert until(api, "team/tiny", over)["status"] == "succeeded"


@on_sqlite
def test_a_pull_under_a_service_that_is_killed_ends_with_it_and_is_continued(
    api_process: ApiProcess, hub: Hub, tiny_model: Path
) -> None:
    api = api_process.api
    hub.held.clear()
    assert post(api, "team/tiny").status_code == 202
    partial = api.folder / "models" / "team" / ".tiny.partial"
    under_way = until(api, "team/tiny", lambda pull: (pull["done_bytes"] or 0) > 0 or over(pull))
    assert under_way["status"] == "running"
    api_process.kill()
    hub.held.set()
    api_process.start()
    cut = httpx.get(f"{api.url}/v1/models/pull/team/tiny").json()
    assert (cut["status"], cut["error"]["code"]) == ("failed", "interrupted")
    assert any(partial.iterdir()), "what was downloaded is kept"
    assert post(api, "team/tiny").json()["status"] == "running"
    done = until(api, "team/tiny", over)
    assert (done["status"], done["error"]) == ("succeeded", None)
    for file in tiny_model.iterdir():
        assert (api.folder / "models" / "team" / "tiny" / file.name).read_bytes() == file.read_bytes()


def cancel(api: Api, name: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(f"{api.url}/v1/models/pull/{name}/cancel", headers=headers, timeout=60)


@on_sqlite
def test_a_pull_is_cancelled_and_leaves_nothing(api: Api, hub: Hub) -> None:
    hub.held.clear()
    post(api, "team/tiny")
    partial = api.folder / "models" / "team" / ".tiny.partial"
    until(api, "team/tiny", lambda pull: (pull["done_bytes"] or 0) > 0 or over(pull))
    assert any(partial.iterdir())
    answer = cancel(api, "team/tiny")
    assert answer.status_code == 200, answer.text
    check_described(ModelPull, answer.text)
    told = answer.json()
    assert (told["status"], told["error"], told["done_bytes"]) == ("cancelled", None, None)
    assert told["finished_at"] is not None
    left = [path.name for path in (api.folder / "models" / "team").iterdir()]
    assert left == [".tiny.lock"], "has been removed"
    assert cancel(api, "team/tiny").json()["status"] == "cancelled"
    asked = len(hub.ranges)
    hub.held.set()
    assert post(api, "team/tiny").json()["status"] == "running"
    assert until(api, "team/tiny", over)["status"] == "succeeded"
    assert len(hub.ranges) == asked, "begun anew"
    late = cancel(api, "team/tiny")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "pull_finished")
    assert cancel(api, "team/none").status_code == 404
    wrong = httpx.get(f"{api.url}/v1/models/pull/team/tiny/cancel")
    assert wrong.status_code == 404, "a model may be called so"
    assert httpx.options(f"{api.url}/v1/models/pull/team/tiny/cancel").headers["allow"] == "POST"


@on_sqlite
def test_what_a_cut_off_pull_has_left_is_discarded(api: Api, hub: Hub, tiny_model: Path) -> None:
    weights = (tiny_model / "model.safetensors").stat().st_size
    hub.cut_after = [weights // 2, 0, 0, 0, 0]
    post(api, "team/tiny")
    assert until(api, "team/tiny", over)["status"] == "failed"
    partial = api.folder / "models" / "team" / ".tiny.partial"
    assert any(partial.iterdir())
    assert cancel(api, "team/tiny").json()["status"] == "cancelled"
    assert not partial.exists()


@on_sqlite
def test_a_pull_of_another_process_is_cancelled(api: Api, hub: Hub) -> None:
    """The service's by a command, and a command's by Ctrl-C, which keeps what has come."""
    hub.held.clear()
    where = ("--data-dir", str(api.folder))
    command = [sys.executable, "-m", "app.cli", "models", "pull", "team/tiny", *where]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    until(api, "team/tiny", lambda pull: (pull["done_bytes"] or 0) > 0 or over(pull))
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130 and "models cancel team/tiny" in said
    partial = api.folder / "models" / "team" / ".tiny.partial"
    assert any(partial.iterdir())
    assert post(api, "team/tiny").json()["status"] == "running"
    done = run_cli("models", "cancel", "team/tiny", *where)
    assert (done.returncode, done.stdout) == (0, "team/tiny is cancelled and has been removed.\n"), (
        done.stderr
    )
    assert until(api, "team/tiny", over)["status"] == "cancelled"
    assert not partial.exists()
    assert run_cli("models", "cancel", "team/none", *where).returncode == 1


@pytest.mark.parametrize(
    ("name", "status", "code", "says"),
    [
        ("team/none", 404, "model_not_found", "HF_TOKEN"),
        ("../../etc/passwd", 400, "invalid_value", "organisation/name"),
        ("team/..", 400, "invalid_value", "organisation/name"),
        ("/tmp/x", 400, "invalid_value", "organisation/name"),
        ("--into=/tmp/x", 400, "invalid_value", "organisation/name"),
        ("tiny", 400, "invalid_value", "SmolLM2-135M-Instruct"),
        ("team/ti\nny", 400, "invalid_value", "organisation/name"),
    ],
)
@on_sqlite
def test_what_cannot_be_fetched_is_refused_at_once(
    api: Api, name: str, status: int, code: str, says: str
) -> None:
    before = set(api.folder.rglob("*"))
    answer = post(api, name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert says in answer.json()["error"]["message"] and answer.json()["error"]["param"] == "name"
    assert set(api.folder.rglob("*")) == before


@on_sqlite
def test_pickled_weights_and_gated_models_are_refused_with_what_to_do(
    api: Api, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    hub.repositories["team/old"] = pickled
    answer = post(api, "team/old")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_safetensors")
    hub.gated = {"team/tiny"}
    answer = post(api, "team/tiny")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_gated")
    assert "accept its terms on the hub and set HF_TOKEN" in answer.json()["error"]["message"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert post(api, "team/tiny").status_code == 202
    assert until(api, "team/tiny", over)["status"] == "succeeded"
    everything = "".join(path.read_text(errors="ignore") for path in api.folder.rglob("*.json"))
    assert TOKEN not in everything, "the token is written nowhere"


@on_sqlite
def test_without_a_hub_it_says_what_there_is(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    answer = post(api, "team/tiny")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "hub_unreachable")
    assert "SmolLM2-135M-Instruct" in answer.json()["error"]["message"]


@on_sqlite
def test_no_more_than_two_at_a_time(api: Api, hub: Hub, tiny_model: Path) -> None:
    names = ["team/one", "team/two", "team/three"]
    hub.repositories |= dict.fromkeys(names, tiny_model)
    hub.held.clear()
    for name in names[:2]:
        assert post(api, name).status_code == 202
        until(api, name, lambda pull: pull["done_bytes"] is not None)
    refused = post(api, names[2])
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "too_many_pulls")
    assert "team/one" in refused.json()["error"]["message"]
    hub.held.set()
    for name in names[:2]:
        assert until(api, name, over)["status"] == "succeeded"
    assert post(api, names[2]).status_code == 202
    assert until(api, names[2], over)["status"] == "succeeded"


@on_sqlite
def test_only_the_operators_projects_may(keyed: Keyed, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = keyed.secrets
    refused = post(keyed.api, "team/tiny", theirs)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    for way in ("policysplit models pull", "POLICYSPLIT_MODEL_PULL_PROJECTS"):
        assert way in refused.json()["error"]["message"]
    headers = {"authorization": f"Bearer {theirs}"}
    asked = httpx.get(f"{keyed.api.url}/v1/models/available/team/tiny", headers=headers)
    assert asked.status_code == 403 and hub.asked == [], "nobody else has the hub asked"
    assert httpx.get(f"{keyed.api.url}/v1/models/available", headers=headers).json()["may_pull"] is False
    monkeypatch.setattr(get_settings(), "model_pull_projects", [keyed.stranger_project])
    assert httpx.get(f"{keyed.api.url}/v1/models/available", headers=headers).json()["may_pull"] is True
    assert post(keyed.api, "team/tiny", mine).status_code == 403
    assert cancel(keyed.api, "team/tiny", mine).status_code == 403
    assert post(keyed.api, "team/tiny", theirs).status_code == 202
    for path in ("/v1/models/pull", "/v1/models/pull/team/tiny", "/v1/models/available"):
        assert httpx.get(keyed.api.url + path).status_code == 401
    deadline = time.monotonic() + 60
    while Pulls(get_settings().models_dir).all()[0].status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@on_sqlite
def test_what_is_offered_fits_this_machine(api: Api) -> None:
    told = httpx.get(f"{api.url}/v1/models/available").json()
    memory = told["machine"]["memory_bytes"]
    assert told["machine"]["free_disk_bytes"] > 0
    if told["machine"]["device"] == "cpu":
        assert memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert told["data"], "the smallest fits wherever tests run"
    for one in told["data"]:
        assert one["memory_to_ask_bytes"] <= memory
        assert (one["fits"] == "training") == (one["memory_to_train_bytes"] <= memory)
    sizes = [one["parameters"] for one in told["data"]]
    assert sizes == sorted(sizes)


def test_what_fits_is_the_most_that_the_memory_is_enough_for() -> None:
    need = needs(1_000_000_000)
    assert need.training > 16e9, "float32 masters and moments alone are twelve bytes a weight"
    found = [
        need.fits(memory) for memory in (need.training, need.training - 1, need.adapters - 1, need.asking - 1)
    ]
    assert found == ["training", "adapters", "asking", "nothing"]


@on_sqlite
def test_the_command_and_the_api_see_each_others_pulls(api: Api, hub: Hub) -> None:
    pulls = Pulls(get_settings().models_dir)
    heard: list[dict[str, Any]] = []
    pulls.pull("team/tiny", heard.append)
    assert next(one["about"] for one in heard if "about" in one)["license"] == "mit"
    assert httpx.get(f"{api.url}/v1/models/pull/team/tiny").json()["status"] == "succeeded"
    unknown = httpx.get(f"{api.url}/v1/models/pull/team/other")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "pull_not_found")
    assert "POST /v1/models/pull" in unknown.json()["error"]["message"]
