"""Jobs of the service on a real Ray cluster: from the request to a model, through pauses and losses."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from app.core.settings import get_settings
from benchmarks import ray_pool
from tests.e2e.test_serve import METHOD, ROWS
from tests.fixtures.ray_nodes import RayNodes, needs_ray
from tests.fixtures.service import POLICYSPLIT, ServeProcess
from tests.fixtures.workers import Service, WorkerProcess, eventually

pytestmark = [
    needs_ray,
    pytest.mark.skipif(
        os.environ.get("RAY") != "1",
        reason="minutes of a Ray cluster of three nodes: make test RAY=1",
    ),
]

SECONDS = 240.0


@pytest.fixture(scope="module")
def serve(
    ray_nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> Iterator[ServeProcess]:
    """``policysplit serve`` whose worker has the cluster; the hosts have trainers of their own."""
    data_dir = tmp_path_factory.mktemp("serve")
    shutil.copytree(tiny_model, data_dir / "models" / "tiny")
    service = ServeProcess(data_dir, POLICYSPLIT, RAY_DEVICE="cpu", RETRY_BACKOFF_SECONDS="0")
    service.settings |= ray_nodes.environment
    service.start()
    yield service
    service.stop()


class OnRay:
    """A job of the service, seen through its API."""

    def __init__(self, client: openai.OpenAI, resources: dict[str, Any], steps: int):
        self._client = client
        content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
        method = METHOD["reinforcement"] | {"budget": {"steps": steps}, "checkpoint": {"interval": 2}}
        self.id = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=file.id,
            method={"type": "reinforcement", "reinforcement": method},
            seed=1,
            extra_body={"resources": resources},
        ).id

    def told(self, path: str = "") -> Any:
        return self._client.get(f"/fine_tuning/jobs/{self.id}{path}", cast_to=object)

    def all(self, kind: str) -> list[Any]:
        return self.told(f"/{kind}?limit=100")["data"]

    def ask(self, what: str) -> None:
        self._client.post(f"/fine_tuning/jobs/{self.id}/{what}", cast_to=object)

    def reaches(self, status: str, seconds: float = SECONDS) -> None:
        eventually(lambda: self._unless_failed()["status"] == status, seconds)

    def passes(self, step: int) -> None:
        eventually(lambda: self._unless_failed()["progress"]["step"] >= step, SECONDS)

    def _unless_failed(self) -> Any:
        told = self.told()
        assert told["status"] != "failed", told["error"]
        return told

    def messages(self) -> list[str]:
        """The oldest first."""
        return [one["message"] for one in reversed(self.all("events")) if one["type"] == "message"]

    def hosts(self) -> list[str]:
        """Names of the nodes by rank, as the newest attempt has told them."""
        placed = next(text for text in reversed(self.messages()) if "The ranks are placed" in text)
        return [name for name, _ in sorted(re.findall(r"\((\w+)\): (\d)", placed), key=lambda one: one[1])]

    def processes(self) -> list[psutil.Process]:
        """The driver, each rank's actor, its guard and its trainer, and all that they have started."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if self.id in line or "RankHost" in line:
                    found |= {one.pid: one for one in [process, *process.children(recursive=True)]}
        return list(found.values())


@pytest.fixture
def create(serve: ServeProcess) -> Iterator[Callable[..., OnRay]]:
    """Makes jobs; those that a test leaves are cancelled."""
    made: list[OnRay] = []

    def create(steps: int, **resources: Any) -> OnRay:
        made.append(OnRay(serve.client(), {"launcher": "ray", **resources}, steps))
        return made[-1]

    yield create
    for job in made:
        if job.told()["status"] not in ("succeeded", "failed", "cancelled"):
            job.ask("cancel")
            job.reaches("cancelled")


def test_a_job_on_two_hosts_becomes_a_model(create: Callable[..., OnRay]) -> None:
    job = create(4, gpus=2, nodes=2)
    job.reaches("succeeded")
    told = job.told()
    assert told["resources"]["launcher"] == "ray" and told["fine_tuned_model"].startswith("ft:tiny:")
    assert len(set(job.hosts())) == 2
    assert {one["step_number"] for one in job.all("checkpoints")} == {2, 4}
    steps = [one["data"]["step"] for one in job.all("events") if one["type"] == "metrics"]
    assert sorted(steps) == [0, 1, 2, 3, 4] or sorted(steps) == [1, 2, 3, 4]
    (attempt,) = job.all("attempts")
    assert (attempt["outcome"], attempt["cause"]) == ("succeeded", "finished")


def test_a_job_is_paused_resumed_loses_a_host_goes_on_and_is_cancelled(
    create: Callable[..., OnRay], ray_nodes: RayNodes
) -> None:
    """The history of its attempts is in docs/guides/scale.md."""
    job = create(5000, gpus=3, nodes=3, min_gpus=2)
    job.passes(3)
    assert job.all("checkpoints")
    job.ask("pause")
    job.reaches("paused", 60)
    assert not job.processes()
    paused_at = job.told()["progress"]["step"]
    job.ask("resume")
    job.passes(paused_at + 3)

    # The host of a rank that is not the first: events come from that one.
    lost = job.hosts()[1]
    reached, removed = job.told()["progress"]["step"], time.time()
    ray_nodes.remove(lost)
    try:
        second = eventually(lambda: [one for one in job.all("attempts") if one["cause"] == "lost_host"], 60)[
            0
        ]
        assert time.time() - removed < 30
        assert second["outcome"] == "crashed" and f"({lost})" in second["message"]
        job.passes(reached + 3)
        assert any("continues with 2 of 3 CPUs" in text for text in job.messages())
        assert lost not in job.hosts() and len(job.hosts()) == 2
        below = job.processes()
        assert len(below) >= 7, "a driver, and an actor, a guard and a trainer on each host"
        asked = time.monotonic()
        job.ask("cancel")
        job.reaches("cancelled", 20)
        eventually(lambda: not job.processes() and not any(one.is_running() for one in below), 10)
        assert time.monotonic() - asked < 10
    finally:
        ray_nodes.add(lost)
    outcomes = [
        (one["outcome"], one["cause"]) for one in sorted(job.all("attempts"), key=lambda a: a["attempt"])
    ]
    assert outcomes == [("paused", "user"), ("crashed", "lost_host"), ("cancelled", "user")]
    steps = [one["data"]["step"] for one in job.all("events") if one["type"] == "metrics"]
    assert len(steps) == len(set(steps)), "each step is told once"


def test_jobs_share_a_cluster_that_loses_a_host_and_each_succeeds_once(
    queued_service: Service,
    start_worker: Callable[[], WorkerProcess],
    ray_nodes: RayNodes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in ray_pool.environment(tmp_path, ray_nodes).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    jobs = ray_pool.add_jobs(queued_service, 8)
    began = time.monotonic()
    for _ in range(2):
        start_worker()
    ray_pool.lose(ray_nodes, "two", jobs, SECONDS)
    try:
        told = ray_pool.wait(jobs, began, SECONDS)
    finally:
        ray_nodes.add("two")
    assert told.statuses == {"succeeded": 8} and not told.twice, str(told)
    assert told.again >= 1 and told.causes["lost_host"] == told.again, str(told)
