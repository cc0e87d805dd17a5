"""Experiments over HTTP: how they become jobs, and what its report says."""

import csv
import io
import json
import time
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select

from app.core.db import read_session, write_session
from app.core.tables import Experiment, ExperimentRun, Job
from app.experiments import expansion
from app.experiments.expansion import start_runs, start_waiting_runs
from app.experiments.objects import ExperimentValidation, ExperimentWithRuns, ReportObject
from tests.fixtures.api import Api, on_sqlite, sums
from tests.fixtures.described import check_described
from tests.fixtures.experiments import EXPERIMENTS, definition, finish
from worker.reconciler import reconcile


def created(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    answer = http.post(EXPERIMENTS, json=definition(**changes))
    assert answer.status_code == 200, answer.text
    return answer.json()


def until_started(http: httpx.Client, experiment_id: str) -> dict[str, Any]:
    """The experiment once it has nothing to start; the API starts runs after its answer."""
    deadline = time.monotonic() + 30
    while True:
        start_runs(experiment_id)  # beside the API's own: what both do is done once
        with read_session() as session:
            if not session.get_one(Experiment, experiment_id).has_unstarted_runs:
                return http.get(f"{EXPERIMENTS}/{experiment_id}").json()
        assert time.monotonic() < deadline


def test_an_experiment_becomes_jobs_that_its_report_compares(http: httpx.Client, client: openai.OpenAI):
    experiment = created(http)
    assert experiment["object"] == "experiment" and experiment["progress"]["runs"] == 9
    experiment = until_started(http, experiment["id"])
    assert experiment["status"] == "running" and experiment["progress"]["by_status"] == {"queued": 9}
    runs = experiment["runs"]
    # All arms of a seed before the next seed.
    assert [(run["seed"], run["arm"]) for run in runs[:4]] == [
        *((0, arm) for arm in ("policy_split", "grpo_2x", "gspo")),
        (1, "policy_split"),
    ]
    job: Any = client.fine_tuning.jobs.retrieve(runs[1]["job_id"])
    reinforcement = job.to_dict(mode="json")["method"]["reinforcement"]
    assert reinforcement["algorithm"]["type"] == "grpo"
    assert reinforcement["optimizer"]["updates_per_batch"] == 2
    assert reinforcement["rollout"]["samples_per_prompt"] == 4
    assert reinforcement["evaluation"]["max_items"] == 32 and reinforcement["budget"]["steps"] == 20
    assert job.seed == 0
    assert job.metadata == {"experiment": experiment["id"], "arm": "grpo_2x", "task": "chain"}

    chances = {"policy_split": 0.8, "grpo_2x": 0.5, "gspo": 0.4}
    for run in runs:
        finish(
            run["job_id"],
            chances[run["arm"]],
            run["seed"],
            ("N", "H") if run["arm"] == "policy_split" else ("N",),
        )
    assert http.get(f"{EXPERIMENTS}/{experiment['id']}").json()["status"] == "completed"

    answer = http.get(f"{EXPERIMENTS}/{experiment['id']}/report")
    check_described(ReportObject, answer.text)
    check_described(ExperimentWithRuns, http.get(f"{EXPERIMENTS}/{experiment['id']}").text)
    report = answer.json()
    (claim,) = report["claims"]
    assert (claim["method"], claim["baseline"], claim["items"]) == ("policy_split", "grpo_2x", 24)
    assert claim["against"] == ["grpo_2x", "gspo"] and claim["level"] == 0.025
    assert claim["winner"] == "policy_split" and report["winner"]["arm"] == "policy_split"
    assert report["synergy"][0]["claimed"] is None  # two of its controls were not run
    arm = report["arms"][0]
    assert arm["cost"]["samples_generated"]["mean"] == 640 and arm["cost"]["seconds"]["mean"] == 10
    assert arm["curves"]["eval/N/accuracy"][-1] == pytest.approx({"step": 20, "mean": 0.8, "std": 0.0})
    assert arm["diagnostics"]["diag/grad_cos"]["mean"] == 0.25
    assert [point["k"] for point in arm["pass_at_k"]["mix"]] == [2, 4, 8, 16]

    table = http.get(f"{EXPERIMENTS}/{experiment['id']}/report", params={"format": "csv"})
    verdicts = {row["arm"]: row for row in csv.DictReader(io.StringIO(table.text))}
    assert verdicts["gspo"]["winner"] == "policy_split" and float(verdicts["gspo"]["adjusted_low"]) > 0
    assert table.headers["content-type"].startswith("text/csv")
    header, *rows = table.text.splitlines()
    assert header.startswith("task,arm,") and [row.split(",")[1] for row in rows] == list(chances)
    answer = http.get(f"{EXPERIMENTS}/{experiment['id']}/report", params={"format": "html"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "script-src" not in policy and "connect-src" not in policy, "nothing in it runs or asks"
    page = answer.text
    assert (
        "policy_split is better than every baseline on every task (chain)." in page
        and page.count("<svg") >= 4
    )
    for outside in ("<script", "<link", "src=", "@import", "href="):
        assert outside not in page


@on_sqlite
def test_each_job_carries_the_experiments_metadata(http: httpx.Client, client: openai.OpenAI):
    pairs = {"team": "a", "arm": "not this one"}
    experiment = until_started(http, created(http, metadata=pairs)["id"])
    assert experiment["metadata"] == pairs
    for run in experiment["runs"][:2]:
        carried = client.fine_tuning.jobs.retrieve(run["job_id"]).metadata
        assert carried == {"team": "a", "experiment": experiment["id"], "arm": run["arm"], "task": "chain"}
    full = {str(number): "x" for number in range(14)}
    refused = http.post(EXPERIMENTS, json=definition(metadata=full))
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "metadata", refused.text


@on_sqlite
def test_no_verdict_before_all_planned_runs_have_ended(http: httpx.Client):
    """Also where those that have ended would do, and against an arm that was named beforehand."""
    experiment = until_started(http, created(http, compare={"against": "gspo"})["id"])
    *first, last = experiment["runs"]
    for run in first:
        finish(run["job_id"], 0.8 if run["arm"] == "policy_split" else 0.4, run["seed"])
    report = http.get(f"{EXPERIMENTS}/{experiment['id']}/report").json()
    assert report["plan"]["against"] == "gspo" and report["winner"]["arm"] is None
    assert report["winner"]["sentence"] == "No verdict yet: 1 of 9 planned runs have not ended."
    assert not any(one["separated"] for one in (*report["claims"], *report["against_method"]))
    page = http.get(f"{EXPERIMENTS}/{experiment['id']}/report", params={"format": "html"}).text
    assert "No verdict yet: 1 of 9 planned runs" in page and "is better than" not in page
    finish(last["job_id"], 0.4, last["seed"])
    assert http.get(f"{EXPERIMENTS}/{experiment['id']}/report").json()["winner"]["arm"] == "policy_split"


def test_a_service_that_is_killed_anywhere_goes_on(
    api: Api, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    """Each run has one job, although every step of starting it was cut off once."""
    monkeypatch.setattr("app.experiments.endpoints.start_runs", lambda _: 0)
    created(http)
    recorded = expansion.repository.record_job
    calls = iter(range(100))

    def cut_off(*arguments: Any) -> None:
        if next(calls) % 2 == 0:
            raise RuntimeError("killed between the job and its record")
        recorded(*arguments)

    monkeypatch.setattr(expansion.repository, "record_job", cut_off)
    for _ in range(9):
        with pytest.raises(RuntimeError):
            start_waiting_runs()
    monkeypatch.setattr(expansion.repository, "record_job", recorded)
    reconcile()  # as every worker does
    assert start_waiting_runs() == 0
    with read_session() as session:
        jobs = session.scalars(select(Job.id)).all()
        assert len(jobs) == 9
        assert sorted(map(str, session.scalars(select(ExperimentRun.job_id)))) == sorted(jobs)


@on_sqlite
def test_extended_by_seeds_and_arms(http: httpx.Client):
    experiment = until_started(http, created(http)["id"])
    before = {(r["arm"], r["seed"]): r["job_id"] for r in experiment["runs"]}
    path = f"{EXPERIMENTS}/{experiment['id']}/extend"
    more = {"seeds": [3, 0], "arms": [{"name": "wild", "algorithm": {"type": "policy_split", "eta": 0.5}}]}
    assert http.post(path, json=more).json()["progress"]["runs"] == 16
    assert http.post(path, json=more).json()["progress"]["runs"] == 16  # it has them now
    after = {(r["arm"], r["seed"]): r["job_id"] for r in until_started(http, experiment["id"])["runs"]}
    assert {key: after[key] for key in before} == before
    assert len(after) == 16 and None not in after.values()
    other = {"arms": [{"name": "wild", "algorithm": {"type": "grpo"}}]}
    refused = http.post(path, json=other)
    assert refused.status_code == 409 and "with a different definition" in refused.json()["error"]["message"]


@on_sqlite
def test_only_seeds_added_after_a_result_could_be_seen_take_an_analysis(http: httpx.Client):
    experiment = until_started(http, created(http)["id"])
    path = f"{EXPERIMENTS}/{experiment['id']}/extend"

    def extended(seed: int) -> list[int]:
        return http.post(path, json={"seeds": [seed]}).json()["definition"]["seeds_before"]

    assert extended(7) == []
    finish(experiment["runs"][0]["job_id"], 0.8, experiment["runs"][0]["seed"])
    assert extended(8) == [4] and extended(8) == [4]
    assert extended(9) == [4], "nobody has seen a result of the seeds since"
    report = http.get(f"{EXPERIMENTS}/{experiment['id']}/report").json()
    assert any("the other 2 were added after results could be seen" in note for note in report["notes"])


def test_what_would_be_made_is_told_and_not_made(http: httpx.Client):
    """Runs and steps by arm and task; seconds as soon as a job like them has run."""
    body = definition(arms=["policy_split", "grpo_2x"], seeds=[0, 1, 2, 3])
    answer = http.post(f"{EXPERIMENTS}/validate", json=body)
    check_described(ExperimentValidation, answer.text)
    told = answer.json()
    assert (told["runs"], told["total_steps"]) == (8, 160)
    assert [(one["arm"], one["runs"], one["total_steps"]) for one in told["kinds"]] == [
        ("policy_split", 4, 20),
        ("grpo_2x", 4, 20),
    ]
    assert told["total_seconds"] is None and told["measured_on"] == []
    assert told["kinds"][1]["job"]["method"]["reinforcement"]["optimizer"]["updates_per_batch"] == 2
    assert http.post("/v1/fine_tuning/jobs/validate", json=told["kinds"][1]["job"]).status_code == 200
    assert http.get(EXPERIMENTS).json()["data"] == []

    experiment = until_started(http, created(http)["id"])
    first, second = (run for run in experiment["runs"][:5] if run["arm"] == "policy_split")
    for run, seconds in ((first, 20.0), (second, 40.0)):
        finish(run["job_id"], 0.5, 0)
        with write_session() as session:
            job = session.get_one(Job, run["job_id"])
            # Twenty steps, of which the last nineteen took nine tenths of the time.
            job.started_at, job.finished_at, job.step = 1000.0, 1000.0 + seconds, 20
            job.clock_step, job.clock_at, job.stepped_at = 1, 1000.0, 1000.0 + 0.9 * seconds
    told = http.post(f"{EXPERIMENTS}/validate", json=body | {"budget": {"steps": 200}}).json()
    step, rest = 0.9 / 19, 1 - 20 * 0.9 / 19
    ours, theirs = (one["seconds"] for one in told["kinds"])
    assert ours["low"] == pytest.approx(0.75 * 20 * (200 * step + rest), abs=0.01)
    assert ours["value"] == pytest.approx(30 * (200 * step + rest), abs=0.01)
    assert ours["high"] == pytest.approx(1.25 * 40 * (200 * step + rest), abs=0.01)
    assert theirs["value"] == ours["value"] and theirs["high"] > ours["high"], "of another algorithm"
    assert told["total_seconds"]["value"] == pytest.approx(8 * ours["value"], abs=0.1)
    assert told["measured_on"] == [second["job_id"], first["job_id"]]
    larger = body | {"reinforcement": {**body["reinforcement"], "rollout": {"samples_per_prompt": 8}}}
    assert http.post(f"{EXPERIMENTS}/validate", json=larger).json()["total_seconds"] is None


def test_what_would_be_added_is_told_and_not_added(http: httpx.Client):
    experiment = until_started(http, created(http)["id"])
    path = f"{EXPERIMENTS}/{experiment['id']}/extend"

    def told(**body: object) -> dict[str, Any]:
        answer = http.post(f"{path}/validate", json=body)
        assert answer.status_code == 200, answer.text
        check_described(ExperimentValidation, answer.text)
        return answer.json()

    assert told(seeds=[0, 2])["runs"] == 0, "what is there already"
    added = told(seeds=[3, 4], arms=["grpo"])
    assert {one["arm"]: one["runs"] for one in added["kinds"]} == {
        "policy_split": 2,
        "grpo_2x": 2,
        "gspo": 2,
        "grpo": 5,
    }
    assert added["runs"] == 11 and added["notes"] == []
    finish(experiment["runs"][0]["job_id"], 0.5, 0)
    (note,) = told(seeds=[3])["notes"]
    assert "the first 3 seeds decide" in note
    assert told(arms=["grpo"])["notes"] == []
    assert http.get(f"{EXPERIMENTS}/{experiment['id']}").json()["progress"]["runs"] == 9
    for body, param in (
        ({"arms": ["grpo", "freeze_loss@21"]}, "arms.1"),
        ({"arms": [{"name": "gspo", "ablation": "grpo"}]}, "arms.0"),
        ({"seeds": [*range(2000, 2999), -1]}, "seeds.999"),
    ):
        for address in (path, f"{path}/validate"):
            refused = http.post(address, json=body)
            assert refused.status_code in (400, 409) and refused.json()["error"]["param"] == param, (
                refused.text
            )


@on_sqlite
def test_max_parallel_and_the_budget_of_hours_bound_what_is_started(http: httpx.Client):
    experiment_id = created(http, max_parallel=2, budget={"steps": 20, "run_hours": 1.0})["id"]
    start_runs(experiment_id)
    runs = http.get(f"{EXPERIMENTS}/{experiment_id}").json()["runs"]
    assert [run["status"] for run in runs[:3]] == ["queued", "queued", "waiting"]
    finish(runs[0]["job_id"], 0.5, 0)
    assert start_waiting_runs() == 1
    with write_session() as session:
        job = session.get_one(Job, runs[0]["job_id"])
        job.started_at = (job.finished_at or 0.0) - 3601
    for run in http.get(f"{EXPERIMENTS}/{experiment_id}").json()["runs"][1:3]:
        finish(run["job_id"], 0.5, 0)
    assert start_waiting_runs() == 0
    experiment = http.get(f"{EXPERIMENTS}/{experiment_id}").json()
    assert experiment["status"] == "out_of_budget" and experiment["progress"]["by_status"]["waiting"] == 6


@on_sqlite
def test_cancelled_with_its_jobs(http: httpx.Client):
    experiment_id = created(http, max_parallel=2)["id"]
    start_runs(experiment_id)
    cancelled = http.post(f"{EXPERIMENTS}/{experiment_id}/cancel").json()
    assert cancelled["status"] == "cancelled" and cancelled["progress"]["by_status"]["cancelled"] == 2
    assert start_waiting_runs() == 0
    refused = http.post(f"{EXPERIMENTS}/{experiment_id}/extend", json={"seeds": [9]})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_experiment_status"


@on_sqlite
def test_a_run_that_cannot_start_is_listed_with_its_reason(
    api: Api, http: httpx.Client, client: openai.OpenAI
):
    file = api.upload(client, sums(40))
    task = {"name": "file", "training_file": file, "validation_file": file}
    experiment_id = created(http, tasks=[task], max_parallel=1)["id"]
    start_runs(experiment_id)
    runs = http.get(f"{EXPERIMENTS}/{experiment_id}").json()["runs"]
    finish(runs[0]["job_id"], 0.5, 0)
    client.files.delete(file)
    start_waiting_runs()
    experiment = http.get(f"{EXPERIMENTS}/{experiment_id}").json()
    assert experiment["runs"][1]["status"] == "refused"
    assert experiment["runs"][1]["error"]["code"] == "file_not_found"
    report = http.get(f"{EXPERIMENTS}/{experiment_id}/report").json()
    assert report["progress"]["failed"] >= 1
    assert "file_not_found" in json.dumps([r["error"] for r in report["runs"]])


@on_sqlite
def test_the_same_key_makes_one_experiment(http: httpx.Client):
    headers = {"Idempotency-Key": "once"}
    first, second = (http.post(EXPERIMENTS, json=definition(), headers=headers).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = http.post(EXPERIMENTS, json=definition(seeds=[7]), headers=headers)
    assert other.status_code == 409 and other.json()["error"]["code"] == "idempotency_key_reused"


@on_sqlite
def test_lists_have_pages(http: httpx.Client):
    ids = [created(http, seeds=[n])["id"] for n in range(3)]
    first = http.get(EXPERIMENTS, params={"limit": 2}).json()
    assert [one["id"] for one in first["data"]] == ids[:0:-1] and first["has_more"] is True
    rest = http.get(EXPERIMENTS, params={"after": first["last_id"]}).json()
    assert [one["id"] for one in rest["data"]] == ids[:1] and rest["has_more"] is False
    assert http.get(EXPERIMENTS, params={"after": "exp_none"}).status_code == 400
