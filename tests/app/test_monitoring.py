"""What monitoring reads of the service, who may, and that rules and dashboard ask for what is there."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from app.accounting.counting import Amounts, Place, add
from app.core.db import write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, JobAttempt, JobReward
from app.keys.service import create_key
from tests.fixtures.api import Api, Keyed, create_job, sums
from tests.fixtures.fleet import inference_worker, training_worker
from tests.fixtures.workers import Service
from worker import figures  # noqa: F401
from worker.inference.load import Load, Loads

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = FOLDER / "rules.yml"
#: Prometheus' own.
GIVEN = {"up"}
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(promtool is None, reason="no promtool: apt-get install prometheus")


def scraped(api: Api) -> str:
    answer = httpx.get(f"{api.url}/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str, name: str, **labels: str) -> list[float]:
    """Of the samples of this name that have these labels."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return [
        sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_the_queue_the_workers_and_the_jobs_that_run_are_told(service: Service, api: Api) -> None:
    empty = scraped(api)
    assert values(empty, "policysplit_workers", type="training", status="online") == [0]
    assert values(empty, "policysplit_jobs") == []

    now = time.time()
    training_worker("lost:1:a", heartbeat_at=now - get_settings().lease_seconds - 1)
    trains, serves = training_worker(), inference_worker()
    running = service.add_job(
        status="running", lease_owner=trains, lease_expires_at=now + 60, step=7, total_steps=20,
        attempt=2, clock_step=2, clock_at=now - 60, stepped_at=now - 10,
    )  # fmt: skip
    with write_session() as session:
        session.execute(update(JobReward).where(JobReward.job_id == running).values(normal=0.25))
        add(session, Place(DEFAULT_PROJECT, "2026-11-28", running, "tiny"), Amounts(trained_tokens=600))
        for attempt, told in ((1, 0), (2, 300)):
            row = JobAttempt(job_id=running, attempt=attempt, worker=trains, started_at=now - 60)
            row.uncounted_trained = told
            session.add(row)
    for age in (100, 200):
        service.add_job(created_at=now - age)
    service.add_job(status="succeeded")

    text = scraped(api)
    project = {"project": DEFAULT_PROJECT}
    assert values(text, "policysplit_jobs", status="queued", **project) == [2]
    assert values(text, "policysplit_jobs", status="running", **project) == [1]
    assert values(text, "policysplit_jobs", status="succeeded") == [], "what has ended is not asked for"
    (oldest,) = values(text, "policysplit_queue_oldest_seconds", **project)
    assert 200 <= oldest < 260
    for status in ("online", "lost"):
        assert values(text, "policysplit_workers", type="training", status=status) == [1]
    assert values(text, "policysplit_slots_taken", worker=trains) == [1]
    assert len(values(text, "policysplit_slots")) == 1, "of a lost worker nothing is promised"
    assert len(values(text, "policysplit_models_loaded", worker=serves)) == 1
    its = {**project, "job": running}
    assert values(text, "policysplit_job_step", **its) == [7]
    assert values(text, "policysplit_job_steps", **its) == [20]
    assert values(text, "policysplit_job_attempts", **its) == [2]
    assert values(text, "policysplit_job_step_seconds", **its) == [pytest.approx(10)]
    assert values(text, "policysplit_job_trained_tokens_total", **its) == [900]
    assert values(text, "policysplit_job_reward", mode="normal", **its) == [0.25]
    assert values(text, "policysplit_job_reward", mode="high-entropy", **its) == [], "it has none yet"
    with write_session() as session:
        session.execute(update(JobReward).where(JobReward.job_id == running).values(high_entropy=0.5))
    assert values(scraped(api), "policysplit_job_reward", mode="high-entropy", **its) == [0.5]


def test_requests_are_counted_by_route_and_not_by_path(api: Api) -> None:
    def count(**labels: str) -> float:
        return sum(values(scraped(api), "policysplit_requests_total", **labels))

    job = {"method": "GET", "route": "/v1/fine_tuning/jobs/{fine_tuning_job_id}"}
    before, others = count(status="404", **job), count(route="other")
    for number in range(3):
        assert httpx.get(f"{api.url}/v1/fine_tuning/jobs/ftjob-{number}").status_code == 404
        assert httpx.patch(f"{api.url}/odd{number}").status_code == 404
    assert count(status="404", **job) == before + 3
    assert count(route="other") == others + 3
    with api.client() as client:
        client.fine_tuning.jobs.retrieve(create_job(client, api, api.upload(client, sums(2))).id)
    text = scraped(api)
    assert values(text, "policysplit_requests_total", status="200", **job)
    assert sum(values(text, "policysplit_answer_seconds_count", **job)) >= before + 4
    assert "ftjob-0" not in text and "odd" not in text


def test_metrics_are_the_operators(keyed: Keyed) -> None:
    def status(secret: str) -> int:
        return httpx.get(
            f"{keyed.api.url}/metrics", headers={"authorization": f"Bearer {secret}"}
        ).status_code

    assert httpx.get(f"{keyed.api.url}/metrics").status_code == 401
    assert status(create_key("project", DEFAULT_PROJECT)[1]) == 403
    assert status(create_key("operator", DEFAULT_PROJECT, operator=True)[1]) == 200


def test_processes_that_share_a_folder_count_together(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from app.core.counting import told
from app.monitoring.requests import CountRequests
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
async def send(message): pass
class Route: path = "/shared"
scope = {"type": "http", "method": "GET", "route": Route()}
asyncio.run(CountRequests(app)(scope, None, send))
print(told().decode())
"""
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for number in (1, 2):
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert values(run.stdout, "policysplit_requests_total", route="/shared") == [number]


def expressions() -> Iterable[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_rules_and_dashboard_ask_for_what_is_there(api: Api) -> None:
    known = set(GIVEN)
    # What workers count is registered in this process, too, once it is imported; loads are read off.
    texts = (scraped(api), generate_latest(Loads([Load("m", 1, 1, 0, 0.5)])).decode())
    for family in (one for text in texts for one in families(text).values()):
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        known |= {family.name + end for end in ends}
    asked = {name for one in expressions() for name in re.findall(r"\b(?:policysplit_\w+|up)\b", one)}
    assert asked <= known, asked - known


@needs_promtool
def test_rules_hold_in_prometheus_own_tests(api: Api) -> None:
    assert promtool is not None
    for arguments in (["check", "rules", RULES], ["test", "rules", FOLDER / "rules_test.yml"]):
        run = subprocess.run([promtool, *arguments], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    run = subprocess.run([promtool, "check", "metrics"], input=scraped(api), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
