"""Workers and the queue over HTTP: what is there, what waits for what, and who may drain."""

import json
import time
from typing import Any

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from sqlalchemy import select, update

from app.checkpoints.repository import upsert_checkpoint
from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, Checkpoint, Job
from app.keys.service import create_key
from app.workers.schemas import Queue, WorkerObject
from tests.fixtures.api import GRADER, Api, Keyed, create_job, sums
from tests.fixtures.described import check_described
from tests.fixtures.fleet import inference_worker, training_worker


def ask(api: Api, method: str, path: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.request(method, f"{api.url}/v1{path}", headers=headers)


def told(api: Api, path: str, key: str | None = None) -> dict[str, Any]:
    answer = ask(api, "GET", path, key)
    assert answer.status_code == 200, answer.text
    return answer.json()


def new_job(client: openai.OpenAI, api: Api) -> FineTuningJob:
    return create_job(client, api, api.upload(client, sums(2)))


def hold(job_id: str, owner: str) -> None:
    """As if the worker had claimed it."""
    values = {"status": "running", "lease_owner": owner, "lease_expires_at": time.time() + 60}
    with write_session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


@pytest.fixture
def operator(keyed: Keyed) -> str:
    """The secret of a key of the operator's."""
    return create_key("operator", DEFAULT_PROJECT, operator=True)[1]


def test_workers_are_listed_with_what_they_do(api: Api) -> None:
    assert told(api, "/workers")["data"] == []
    silent = time.time() - get_settings().lease_seconds - 1
    training_worker("lost:1:a", heartbeat_at=silent, started_at=silent)
    trains, serves = training_worker(cache={"bytes": 7, "limit_bytes": None}), inference_worker()
    with api.client() as client:
        hold(job_id := new_job(client, api).id, trains)
    answer = ask(api, "GET", "/workers")
    one, other, lost = answer.json()["data"]
    for each in (one, other, lost):
        check_described(WorkerObject, httpx.Response(200, json=each).text)
    assert (one["id"], one["type"], one["status"]) == (trains, "training", "online")
    assert (one["slots"], one["running"], one["jobs"], one["gpus"]) == (2, 1, [job_id], ["0", "1"])
    assert (other["id"], other["host"], other["models_loaded"], other["slots"]) == (serves, None, 1, None)
    assert (one["cache"], other["cache"]) == ({"bytes": 7, "limit_bytes": None}, None)
    assert (lost["id"], lost["status"]) == ("lost:1:a", "lost")
    assert told(api, f"/workers/{trains}") == one
    page = told(api, f"/workers?limit=1&after={trains}")
    assert [each["id"] for each in page["data"]] == [serves] and page["has_more"]
    assert ask(api, "GET", "/workers?after=none").status_code == 400
    assert ask(api, "GET", "/workers/none").status_code == 404


def test_loaded_models_are_named_to_those_whose_they_are(keyed: Keyed, operator: str) -> None:
    with keyed.api.client(keyed.secrets[0]) as client:
        job_id = new_job(client, keyed.api).id
    paths = [f"store:runs/{job_id}/checkpoints/step-{step}/{'0' * 64}" for step in (1, 2)]
    with write_session() as session:
        job = session.get_one(Job, job_id)
        for step, path in enumerate(paths, 1):
            upsert_checkpoint(
                session,
                job,
                step=step,
                path=path,
                high_entropy_prompt="",
                manifest_sha256="0" * 64,
                metrics={},
            )
        own = session.scalars(select(Checkpoint.model).where(Checkpoint.step == 2)).one()
    base = str(get_settings().models_dir / "tiny")
    inference_worker(loaded=[base, paths[1], "store:base/org/other"])
    mine, theirs = keyed.secrets
    for key, models in (
        (mine, ["org/other", "tiny", own]),
        (theirs, ["org/other", "tiny"]),
        (operator, None),
    ):
        (one,) = told(keyed.api, "/workers", key)["data"]
        assert (one["models_loaded"], one["models"]) == (3, sorted(models or ["org/other", "tiny", own]))


def test_the_queue_says_what_it_waits_for(api: Api) -> None:
    def waits_for() -> str | None:
        answer = ask(api, "GET", "/queue")
        check_described(Queue, answer.text)
        return answer.json()["waits_for"]

    assert waits_for() is None
    with api.client() as client:
        first, second = (new_job(client, api).id for _ in range(2))
    assert waits_for() == "worker"
    assert "No worker is connected" in httpx.get(f"{api.url}/readyz").json()["warnings"][-1]
    worker = training_worker(slots=1)
    assert waits_for() == "pickup"
    assert ask(api, "POST", f"/workers/{worker}/drain").json()["status"] == "draining"
    assert waits_for() == "undrain"
    assert "All workers are draining" in httpx.get(f"{api.url}/readyz").json()["warnings"][-1]
    assert ask(api, "POST", f"/workers/{worker}/undrain").json()["status"] == "online"
    hold(first, worker)
    assert waits_for() == "slot"
    queue = told(api, "/queue")
    assert (queue["waiting"], queue["running"], queue["slots"], queue["free_slots"]) == (1, 1, 1, 0)
    assert [(one["id"], one["queue_position"]) for one in queue["next"]] == [(second, 1)]
    (project,) = queue["projects"]
    assert (project["waiting"], project["running"], project["later"]) == (1, 1, 0)
    with write_session() as session:
        session.get_one(Job, second).not_before = time.time() + 600
    assert waits_for() == "time"
    assert told(api, "/queue")["projects"][0]["later"] == 1


def test_a_job_of_several_gpus_is_checked_against_the_workers_and_waits_visibly(api: Api) -> None:
    with api.client() as client:
        small = new_job(client, api)
        assert small.training_file is not None
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    body = {"model": api.model, "training_file": small.training_file, "method": method}

    def post(**resources: Any) -> httpx.Response:
        return httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body | {"resources": resources})

    assert post(gpus=64).status_code == 200, "nobody knows what there will be"
    worker = training_worker(slots=8, gpus=[str(number) for number in range(8)])
    training_worker("cpu:1:a", slots=2, gpus=[])
    refused = post(gpus=16).json()["error"]
    assert refused["param"] == "resources.gpus"
    assert "The largest of 2 workers has 8 GPUs, and no Ray cluster is connected" in refused["message"]
    job = post(gpus=8, min_gpus=4).json()
    assert job["resources"] == {
        "gpus": 8,
        "nodes": 1,
        "rollout_gpus": 0,
        "tensor_parallel": 1,
        "min_gpus": 4,
        "launcher": "torchrun",
    }
    shown = told(api, f"/fine_tuning/jobs/{job['id']}")
    assert shown["resources"] == job["resources"]
    hold(small.id, worker)
    queue = told(api, "/queue")
    assert (queue["waits_for"], queue["slots"], queue["free_slots"]) == ("gpus", 10, 9)
    assert queue["largest_free_block"] == 7
    assert queue["message"] == "The next job waits for 64 GPUs; the largest worker has 8."
    assert [one["gpus"] for one in queue["next"]] == [64, 8]
    with api.client() as client:
        another = new_job(client, api)
    assert told(api, "/queue")["waits_for"] == "pickup"
    training_worker("cpu:1:a", slots=2, gpus=[], draining=True)
    with write_session() as session:
        session.execute(update(Job).where(Job.id == job["id"]).values(reserved_by=worker))
    assert told(api, "/queue")["waits_for"] == "gpus", "what is free is kept for the large one"
    training_worker("cpu:1:a", slots=2, gpus=[])
    with write_session() as session:
        session.execute(update(Job).where(Job.id == another.id).values(status="paused"))
        session.execute(update(Job).where(Job.id == job["id"]).values(held_gpus=8, reserved_by=None))
    hold(job["id"], worker)
    with write_session() as session:
        session.execute(update(Job).where(Job.id == small.id).values(status="paused", lease_owner=None))
    assert told(api, f"/workers/{worker}")["slots_taken"] == 8
    assert (told(api, "/queue")["free_slots"], told(api, "/queue")["largest_free_block"]) == (2, 2)


def test_a_project_sees_its_own_jobs_and_the_operator_drains(keyed: Keyed, operator: str) -> None:
    api, (mine, theirs) = keyed.api, keyed.secrets
    worker, serves = training_worker(), inference_worker()
    own, foreign = new_job(keyed.owner, api).id, new_job(keyed.stranger, api).id
    waiting = new_job(keyed.stranger, api).id
    for job_id in (own, foreign):
        hold(job_id, worker)
    for key, jobs, queued, projects in (
        (mine, [own], [], {DEFAULT_PROJECT}),
        (theirs, [foreign], [waiting], {keyed.stranger_project}),
        (operator, sorted([own, foreign]), [waiting], {DEFAULT_PROJECT, keyed.stranger_project}),
    ):
        seen = told(api, f"/workers/{worker}", key)
        assert (seen["jobs"], seen["running"]) == (jobs, 2)
        queue = told(api, "/queue", key)
        assert [one["id"] for one in queue["next"]] == queued
        assert {one["project_id"] for one in queue["projects"]} == projects
    for action in ("drain", "undrain"):
        for key, path, status in (
            (mine, f"/workers/{worker}/{action}", 403),
            (operator, f"/workers/{worker}/{action}", 200),
            (operator, f"/workers/{serves}/{action}", 400),
            (operator, f"/workers/none/{action}", 404),
        ):
            assert ask(api, "POST", path, key).status_code == status, (action, path)


def test_a_job_on_several_hosts_is_checked_against_the_ray_clusters_that_workers_have(api: Api) -> None:
    with api.client() as client:
        training_file = new_job(client, api).training_file
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    body = {"model": api.model, "training_file": training_file, "method": method}

    def post(**resources: Any) -> httpx.Response:
        return httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body | {"resources": resources})

    assert post(gpus=16, nodes=2).status_code == 200, "nobody knows what there will be"
    cluster = {"address": "head:6379", "device": "gpu", "hosts": [8, 8, 4], "problem": None}
    worker = training_worker(ray=None)
    assert (
        "2. That requires a Ray cluster, but none is connected"
        in post(gpus=16, nodes=2).json()["error"]["message"]
    )
    training_worker(worker, ray=cluster)
    assert told(api, f"/workers/{worker}")["ray"] == cluster
    job = post(gpus=16, nodes=2).json()
    assert job["resources"]["launcher"] == "ray"
    with read_session() as session:
        row = session.get_one(Job, job["id"])
        assert (row.wanted_gpus, row.least_gpus) == (1, 0)
    refused = post(gpus=24, nodes=3).json()["error"]
    assert refused["param"] == "resources.gpus"
    assert "24, on 3 hosts of a Ray cluster. The hosts have this many GPUs: 8, 8, 4." in refused["message"]
    training_worker(worker, ray=cluster | {"problem": "the Ray cluster cannot be reached"})
    assert post(gpus=24, nodes=3).status_code == 200, "nobody knows what it has"
    assert post(gpus=9, rollout_gpus=1, launcher="ray").status_code == 200


def test_the_queue_says_what_jobs_of_a_ray_cluster_wait_for(api: Api) -> None:
    with api.client() as client:
        on_ray, small = new_job(client, api).id, new_job(client, api).id

    def message() -> str:
        queue = told(api, "/queue")
        check_described(Queue, json.dumps(queue))
        assert queue["waits_for"] == "cluster"
        return queue["message"]

    with write_session() as session:
        session.get_one(Job, on_ray).least_gpus = 0
    worker = training_worker(slots=2, ray=None)
    assert told(api, "/queue")["waits_for"] == "pickup", "the other one is taken"
    hold(small, worker)
    assert "no connected worker has one: start one with POLICYSPLIT_RAY_ADDRESS" in message()
    cluster = {"address": "head:6379", "device": "gpu", "hosts": [], "problem": "It does not answer."}
    with_one = training_worker("gpu-2:7:aa", slots=1, ray=cluster)
    assert message() == "The next job waits for a Ray cluster: head:6379: It does not answer."
    training_worker(with_one, slots=1, ray=cluster | {"hosts": [8], "problem": None})
    assert told(api, "/queue")["waits_for"] == "pickup"
    with api.client() as client:
        hold(new_job(client, api).id, with_one)
    assert message() == "The next job waits for a slot of a worker that has a Ray cluster."
