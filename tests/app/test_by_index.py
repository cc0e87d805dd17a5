"""No request reads a large table from end to end: every route on a filled database."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select
from starlette.routing import Route

from app.core.db import build_engine, close_engine, get_engine, read_session
from app.core.migrate import upgrade_to_head
from app.core.tables import AuditEntry
from app.main import create_app
from app.rollouts.filters import Filter
from app.rollouts.repository import listing
from tests.fixtures.api import GRADER, Api
from tests.fixtures.databases import temporary_database
from tests.fixtures.evals import CONFIG, answered
from tests.fixtures.experiments import definition
from tests.fixtures.filled import ENDPOINT, EVAL, EVAL_RUN, EXPERIMENT, Counts, fill, job_name, model_name
from tests.fixtures.fleet import training_worker
from tests.fixtures.plans import Plans

#: A table of more rows must not be read from end to end.
ROWS = 10_000
COUNTS = Counts(
    jobs=24_000,
    waiting=11_000,
    running=50,
    checkpoints=26_000,
    events=13_000,
    rollouts=22_000,
    series=11,
    steps=1_000,
    deliveries=11_000,
    # More than twice a page.
    files=24_000,
    runs=11_000,
)
QUEUED, ENDED = job_name(COUNTS.jobs - 1_001), job_name(0)
MODEL = model_name(10, 1)
JOB = "/v1/fine_tuning/jobs/{fine_tuning_job_id}"
EVAL_RUNS = "/v1/evals/{eval_id}/runs/{run_id}"
OF_RUN = {"eval_id": f"{EVAL}-0", "run_id": EVAL_RUN}
#: One that waits.
OF_WAITING = {"eval_id": f"{EVAL}-1", "run_id": f"{EVAL_RUN.rpartition('_')[0]}_1"}
CREATE = {
    "model": "tiny",
    "environment": {"task": "chain_sum"},
    "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER, "budget": {"steps": 1}}},
}

#: What is asked of each route: what is put into its path, the query, the body.
Asked = tuple[dict[str, str], dict[str, Any], Any]
REQUESTS: dict[str, list[Asked]] = {
    "POST /v1/files": [],
    "GET /v1/files": [
        ({}, {}, None),
        ({}, {"purpose": "fine-tune", "after": "file-88"}, None),
        ({}, {"order": "asc"}, None),
    ],
    "GET /v1/files/{file_id}": [({"file_id": "file-7"}, {}, None)],
    "GET /v1/files/{file_id}/content": [({"file_id": "file-7"}, {}, None)],
    "GET /v1/files/{file_id}/prompt_lengths": [({"file_id": "file-7"}, {"model": MODEL}, None)],
    "DELETE /v1/files/{file_id}": [({"file_id": "file-7"}, {}, None), ({"file_id": "file-9000"}, {}, None)],
    "POST /v1/fine_tuning/jobs/estimate": [({}, {}, CREATE)],
    "GET /v1/fine_tuning/estimates/{estimate_id}": [({"estimate_id": "estimates-3"}, {}, None)],
    "POST /v1/fine_tuning/jobs": [({}, {}, CREATE), ({}, {}, CREATE | {"model": MODEL})],
    "POST /v1/fine_tuning/jobs/validate": [({}, {}, CREATE)],
    "GET /v1/fine_tuning/jobs": [
        ({}, {}, None),
        ({}, {"after": job_name(5_000), "limit": 100}, None),
        ({}, {"status": "running"}, None),
        ({}, {"status": ["paused", "succeeded"]}, None),
        ({}, {"metadata[team]": "rare"}, None),
        ({}, {"metadata[team]": "none"}, None),
        ({}, {"metadata": "null"}, None),
        ({}, {"search": "SWEEP-17 tiny"}, None),
        ({}, {"search": "nobody", "status": "running"}, None),
        ({}, {"sort": "name", "order": "asc", "after": job_name(5_000)}, None),
        ({}, {"sort": "status", "search": "tiny"}, None),
        ({}, {"sort": "normal_reward"}, None),
        ({}, {"sort": "high_entropy_reward", "order": "asc", "after": job_name(5_000)}, None),
        ({}, {"sort": "normal_reward", "status": "succeeded", "search": "tiny"}, None),
        ({}, {"sort": "normal_reward", "metadata[team]": "many"}, None),
    ],
    f"POST {JOB}": [({"fine_tuning_job_id": ENDED}, {}, {"tags": ["seen"]})],
    f"GET {JOB}": [({"fine_tuning_job_id": QUEUED}, {}, None), ({"fine_tuning_job_id": ENDED}, {}, None)],
    **{
        f"GET {JOB}/{what}": [({"fine_tuning_job_id": ENDED}, {}, None)]
        for what in (
            *("timeline", "attempts", "replays", "events", "checkpoints"),
            *("metrics", "metrics.csv", "rollouts.jsonl"),
        )
    },
    f"GET {JOB}/metrics/stream": [],
    f"POST {JOB}/pause": [({"fine_tuning_job_id": job_name(COUNTS.jobs - 8)}, {}, None)],
    f"POST {JOB}/resume": [({"fine_tuning_job_id": job_name(COUNTS.jobs - 8)}, {}, None)],
    f"POST {JOB}/cancel": [({"fine_tuning_job_id": job_name(COUNTS.jobs - 8)}, {}, None)],
    f"DELETE {JOB}": [
        ({"fine_tuning_job_id": job_name(3)}, {}, None),
        ({"fine_tuning_job_id": job_name(COUNTS.jobs - 8)}, {}, None),
    ],
    f"POST {JOB}/replay": [({"fine_tuning_job_id": ENDED}, {"step": 1}, None)],
    f"GET {JOB}/replays/{{replay_id}}": [
        ({"fine_tuning_job_id": ENDED, "replay_id": "job_replays-0"}, {}, None)
    ],
    f"GET {JOB}/rollouts": [
        ({"fine_tuning_job_id": ENDED}, query, None)
        for query in (
            {},
            {"step": 3, "group": 1},
            {"item": 17},
            {"mode": "normal", "min_reward": 0.5},
            {"search": "answer"},
            {"search": "gives 123,"},
        )
    ],
    f"GET {JOB}/rollouts/{{rollout_id}}": [
        ({"fine_tuning_job_id": ENDED, "rollout_id": "rollout-1"}, {}, None)
    ],
    "GET /v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint:path}/permissions": [
        ({"fine_tuned_model_checkpoint:path": MODEL}, {}, None)
    ],
    "POST /v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint:path}/permissions": [
        ({"fine_tuned_model_checkpoint:path": MODEL}, {}, {"project_ids": ["proj_other"]})
    ],
    "DELETE /v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint:path}/permissions/{permission_id}": [
        ({"fine_tuned_model_checkpoint:path": MODEL, "permission_id": "cp_1"}, {}, None)
    ],
    "POST /v1/fine_tuning/alpha/graders/run": [],
    "POST /v1/fine_tuning/alpha/graders/validate": [({}, {}, {"grader": GRADER})],
    "POST /v1/experiments": [({}, {}, definition())],
    "POST /v1/experiments/validate": [({}, {}, definition())],
    "GET /v1/experiments": [({}, {}, None), ({}, {"after": f"{EXPERIMENT}-7"}, None)],
    **{
        f"{method} /v1/experiments/{{experiment_id}}{rest}": [
            ({"experiment_id": f"{EXPERIMENT}-3"}, {}, body)
        ]
        for method, rest, body in (
            ("GET", "", None),
            ("POST", "/extend", {"seeds": [999]}),
            ("POST", "/extend/validate", {"seeds": [998]}),
            ("POST", "/cancel", None),
            ("GET", "/report", None),
        )
    },
    "POST /v1/evals": [({}, {}, {"data_source_config": CONFIG, "testing_criteria": [GRADER]})],
    "GET /v1/evals": [
        ({}, {}, None),
        ({}, {"after": f"{EVAL}-7", "order": "desc"}, None),
        ({}, {"order_by": "updated_at"}, None),
    ],
    "GET /v1/evals/{eval_id}": [({"eval_id": f"{EVAL}-1"}, {}, None)],
    "POST /v1/evals/{eval_id}": [({"eval_id": f"{EVAL}-1"}, {}, {"name": "other"})],
    "POST /v1/evals/{eval_id}/runs": [({"eval_id": f"{EVAL}-1"}, {}, {"data_source": answered("4")})],
    "GET /v1/evals/{eval_id}/runs": [
        ({"eval_id": f"{EVAL}-0"}, query, None)
        for query in ({}, {"order": "desc", "after": EVAL_RUN}, {"status": "completed"})
    ],
    "GET /v1/evals/{eval_id}/compare": [({"eval_id": f"{EVAL}-1"}, {"runs": OF_WAITING["run_id"]}, None)],
    f"GET {EVAL_RUNS}": [(OF_RUN, {}, None)],
    f"GET {EVAL_RUNS}/output_items": [
        (OF_RUN, query, None)
        for query in (
            {},
            {"order": "desc", "after": "outputitem_88"},
            {"status": "fail"},
            {"status": "error"},
        )
    ],
    f"GET {EVAL_RUNS}/output_items/{{output_item_id}}": [
        (OF_RUN | {"output_item_id": "outputitem_88"}, {}, None)
    ],
    **{f"POST {EVAL_RUNS}/{what}": [(OF_WAITING, {}, None)] for what in ("pause", "resume", "cancel")},
    f"DELETE {EVAL_RUNS}": [(OF_WAITING, {}, None)],
    "DELETE /v1/evals/{eval_id}": [({"eval_id": f"{EVAL}-2"}, {}, None)],
    "GET /v1/models": [({}, {}, None), ({}, {"after": MODEL, "limit": 100}, None)],
    "GET /v1/models/available": [({}, {}, None)],
    "GET /v1/models/pull": [({}, {}, None)],
    "GET /v1/models/{model_id:path}": [
        ({"model_id:path": name}, {}, None)
        for name in (MODEL, "tiny", model_name(8, 99), "ft:tiny:policysplit::0000012990")
    ],
    "DELETE /v1/models/{model_id:path}": [({"model_id:path": MODEL}, {}, None)],
    "GET /v1/webhook_event_types": [({}, {}, None)],
    "POST /v1/webhook_endpoints": [
        ({}, {}, {"name": "n", "url": "https://127.0.0.1/", "event_types": ["fine_tuning.job.succeeded"]})
    ],
    "GET /v1/webhook_endpoints": [({}, {}, None)],
    "GET /v1/webhook_endpoints/{webhook_endpoint_id}": [({"webhook_endpoint_id": ENDPOINT}, {}, None)],
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}": [
        ({"webhook_endpoint_id": ENDPOINT}, {}, {"name": "other"})
    ],
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret": [
        ({"webhook_endpoint_id": ENDPOINT}, {}, {})
    ],
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/test": [],
    "GET /v1/webhook_endpoints/{webhook_endpoint_id}/deliveries": [
        ({"webhook_endpoint_id": ENDPOINT}, {}, None),
        ({"webhook_endpoint_id": ENDPOINT}, {"after": "whd_88"}, None),
    ],
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/redeliver": [
        ({"webhook_endpoint_id": ENDPOINT, "delivery_id": "whd_7"}, {}, None)
    ],
    "DELETE /v1/webhook_endpoints/{webhook_endpoint_id}": [({"webhook_endpoint_id": ENDPOINT}, {}, None)],
    "GET /v1/storage": [({}, {}, None)],
    "GET /v1/api_keys": [({}, {}, None)],
    "GET /v1/projects": [({}, {}, None)],
    "GET /v1/audit_log": [
        ({}, {}, None),
        ({}, {"project_ids": "proj_other"}, None),
        ({}, {"event_types": "job.created", "after": "audit_log-88"}, None),
        ({}, {"resource_ids": "ftjob-77"}, None),
        ({}, {"actor_ids": "key_3", "since": 1, "until": 2_000_000_000}, None),
    ],
    "GET /v1/usage": [
        ({}, {}, None),
        ({}, {"start_time": 1_764_000_000, "end_time": 1_766_000_000, "group_by": "job_id"}, None),
        ({}, {"start_time": 1_764_000_000, "end_time": 1_764_100_000, "project_ids": "proj_other"}, None),
        ({}, {"start_time": 1, "job_ids": "ftjob-77"}, None),
    ],
    "GET /v1/usage.csv": [({}, {"group_by": ["project_id", "mode"]}, None)],
    "GET /v1/prices": [({}, {}, None)],
    "POST /v1/prices": [({}, {}, {"currency": "EUR", "gpu_hour": 2})],
    "GET /v1/projects/{project_id}": [({"project_id": "proj_other"}, {}, None)],
    "POST /v1/projects/{project_id}": [({"project_id": "proj_other"}, {}, {"limits": {"jobs": 5}})],
    "GET /v1/workers": [({}, {}, None)],
    "GET /v1/workers/{worker_id}": [({"worker_id": "filled"}, {}, None)],
    "POST /v1/workers/{worker_id}/drain": [({"worker_id": "filled"}, {}, None)],
    "POST /v1/workers/{worker_id}/undrain": [({"worker_id": "filled"}, {}, None)],
    "GET /v1/queue": [({}, {}, None)],
    "POST /v1/projects": [({}, {}, {"name": "one more"})],
    # The first key would end what is asked without one; keys are few.
    "POST /v1/api_keys": [],
    "POST /v1/api_keys/{key_id}/revoke": [],
    # Answered by a worker, or without a query that grows.
    "POST /v1/chat/completions": [],
    "POST /v1/completions": [],
    "POST /v1/responses": [],
    "GET /v1/models/available/{hub_name:path}": [],
    "POST /v1/models/pull": [],
    "GET /v1/models/pull/{hub_name:path}": [],
    "POST /v1/models/pull/{hub_name:path}/cancel": [],
    "GET /healthz": [],
    "GET /readyz": [({}, {}, None)],
    "GET /metrics": [({}, {}, None)],
}


#: What changes nothing, though it is a POST; all else leaves an entry in the audit log.
CHANGES_NOTHING = {
    "POST /v1/fine_tuning/jobs/validate",
    "POST /v1/fine_tuning/alpha/graders/validate",
    "POST /v1/experiments/validate",
    "POST /v1/experiments/{experiment_id}/extend/validate",
}
#: What needs a disk, a broker, an address of elsewhere: their queries were made by then.
REFUSED = {
    *("GET /v1/files/{file_id}/content", "GET /v1/files/{file_id}/prompt_lengths"),
    *("GET /readyz", "POST /v1/webhook_endpoints"),
}


def _large_tables(engine: Engine) -> set[str]:
    names = ("jobs", "checkpoints", "job_events", "rollouts", "metric_points", "files", "job_attempts")
    names += ("webhook_deliveries", "webhook_attempts", "experiment_runs", "estimates", "job_replays")
    names += ("job_metadata", "job_rewards", "audit_log", "evals", "eval_runs", "eval_output_items", "usage")
    with engine.connect() as connection:
        counts = {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in names
        }
    assert min(counts.values()) > ROWS, counts
    return set(names)


@pytest.fixture
def plans(api: Api) -> Iterator[Plans]:
    engine = get_engine()
    fill(engine, COUNTS)
    training_worker("filled")
    with Plans(engine, _large_tables(engine)).noting() as plans:
        yield plans


def test_every_route_is_asked() -> None:
    routes = {
        f"{method} {route.path}"
        for route in create_app().routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
        and route.path not in ("/", "/openapi.json")
        and not route.path.startswith(("/docs", "/dashboard", "/auth"))
    }
    assert routes == set(REQUESTS)


def _texts_are_indexed(engine: Engine) -> bool:
    """A PostgreSQL without pg_trgm reads a job's rollouts to search them, as it says when it is set up."""
    if engine.dialect.name == "sqlite":
        return True
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'")
        return found.scalar_one() > 0


def test_postgresql_searches_by_trigrams(postgres_with_extensions: str) -> None:
    """Whoever searches for what is rare, or not there, reads no other text."""
    with temporary_database(postgres_with_extensions) as url:
        upgrade_to_head(url)
        engine = build_engine(url)
        try:
            fill(engine, COUNTS)
            for words, found in (("gives 21991,", 0), ("What is 21988 plus", 1), ("no such text", 0)):
                with Plans(engine, ["rollouts"]).noting() as plans, read_session(engine) as session:
                    wanted = Filter(search=words)
                    assert len(listing(session, ENDED, wanted, after=None, limit=20)) == found, words
                    _near, everywhere = plans.summaries()
                assert "ix_rollouts_search" in everywhere and "seq rollouts" not in everywhere
        finally:
            close_engine(engine)


def _check_audit_log(changed: dict[str, str]) -> None:
    """Every request that changed something has left an entry, with where it came from; ``changed``: by id."""
    with read_session() as session:
        rows = session.execute(
            select(AuditEntry.request_id, AuditEntry.address).where(AuditEntry.request_id.in_(changed))
        ).all()
    told = {changed[row.request_id] for row in rows}
    assert set(changed.values()) - told == CHANGES_NOTHING
    assert {row.address for row in rows} == {"127.0.0.1"}


def test_no_route_reads_a_large_table_from_end_to_end(api: Api, plans: Plans) -> None:
    scans: list[str] = []
    searches = _texts_are_indexed(get_engine())
    answered: dict[str, list[int]] = {}
    changed: dict[str, str] = {}
    with httpx.Client(base_url=api.url, timeout=60) as client:
        for route, requests in REQUESTS.items():
            method, path = route.split()
            for places, query, body in requests:
                if "search" in query and not searches:
                    continue
                url = path
                for name, value in places.items():
                    url = url.replace(f"{{{name}}}", value)
                answer = client.request(method, url, params=query, json=body)
                answered.setdefault(route, []).append(answer.status_code)
                if method != "GET" and answer.is_success:
                    changed[answer.headers["x-request-id"]] = route
                scans += [f"{route} {query} ({answer.status_code}): {scan}" for scan in plans.large_scans()]
    _check_audit_log(changed)
    assert not scans, "\n".join(scans)
    # A refusal is told by a query as well, but every route has been followed to its end once.
    refused = {route: codes for route, codes in answered.items() if min(codes) >= 300 or max(codes) >= 500}
    assert refused.keys() == REFUSED, refused
