"""Nothing of one project can be seen or touched with the key of another, on any route there is."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi.routing import APIRoute

from app.core.auth import is_public
from app.main import create_app
from tests.fixtures.api import GRADER, Api, Keyed, on_sqlite, sums
from tests.fixtures.belongings import Belongings, new_experiment, new_webhook
from tests.fixtures.evals import answered, new_eval

Route = tuple[str, str]


def guarded_routes() -> Iterator[Route]:
    """Method and path of every route but those for everybody."""
    for route in create_app().routes:
        path = getattr(route, "path", "")
        if is_public(path):
            continue
        assert isinstance(route, APIRoute), f"{route} is not a route that this test can walk"
        for method in sorted(route.methods):
            yield method, re.sub(r":\w+}", "}", route.path)


ROUTES = list(guarded_routes())


_JOB: dict[str, Any] = {
    "model": "tiny",
    "training_file": "{file_id}",
    "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
}
#: Bodies for the routes that want one, with the owner's ids in them.
BODIES: dict[Route, dict[str, Any]] = {
    ("POST", "/v1/completions"): {"model": "{model_id}", "prompt": "hi"},
    ("POST", "/v1/responses"): {"model": "{model_id}", "input": "hi"},
    ("POST", "/v1/chat/completions"): {
        "model": "{model_id}",
        "messages": [{"role": "user", "content": "hi"}],
    },
    ("POST", "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"): {
        "project_ids": ["{other_project}"]
    },
    ("POST", "/v1/fine_tuning/jobs/{fine_tuning_job_id}"): {"note": "mine now"},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}"): {"name": "renamed"},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"): {},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/test"): {"event_type": "fine_tuning.job.succeeded"},
    ("POST", "/v1/evals/{eval_id}"): {"name": "mine now"},
    ("POST", "/v1/evals/{eval_id}/runs"): {"data_source": answered("4")},
    ("POST", "/v1/experiments/{experiment_id}/extend"): {"seeds": [7]},
    ("POST", "/v1/experiments/{experiment_id}/extend/validate"): {"seeds": [7]},
    ("POST", "/v1/experiments/validate"): {
        "name": "x",
        "model": "tiny",
        "reinforcement": {"grader": GRADER},
        "arms": ["policy_split", "grpo"],
        "tasks": [
            {
                "name": "sums",
                "training_file": "{file_id}",
                "validation_environment": {"type": "environment", "task": "chain_sum", "size": 80},
            }
        ],
        "seeds": [0],
        "budget": {"steps": 1},
    },
    ("POST", "/v1/fine_tuning/jobs"): _JOB,
    ("POST", "/v1/fine_tuning/jobs/estimate"): _JOB,
    ("POST", "/v1/fine_tuning/jobs/validate"): _JOB,
}
#: What the query of a route must have.
QUERIES: dict[Route, str] = {
    ("POST", "/v1/fine_tuning/jobs/{fine_tuning_job_id}/replay"): "?step=1",
    ("GET", "/v1/files/{file_id}/prompt_lengths"): "?model=tiny",
}
#: Routes without a parameter in the path. A listing must have nothing of the owner's; a reference to what is
#: the owner's must be answered like one to nothing; what is made belongs to who made it.
LISTINGS = {
    ("GET", "/v1/files"),
    ("GET", "/v1/fine_tuning/jobs"),
    ("GET", "/v1/models"),
    ("GET", "/v1/webhook_endpoints"),
    ("GET", "/v1/experiments"),
    ("GET", "/v1/evals"),
    ("GET", "/v1/api_keys"),
    ("GET", "/v1/audit_log"),
}
REFERENCES = {
    ("POST", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/fine_tuning/jobs/estimate"),
    ("POST", "/v1/fine_tuning/jobs/validate"),
    ("POST", "/v1/experiments/validate"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
}
CREATIONS = {
    *(("POST", "/v1/files"), ("POST", "/v1/webhook_endpoints"), ("POST", "/v1/experiments")),
    ("POST", "/v1/evals"),
}
#: The same for everybody.
CONSTANT = {("GET", "/v1/webhook_event_types")}
#: Base models are everybody's; who may fetch them: tests/app/test_model_pull.py.
SHARED = {
    ("GET", "/v1/models/available"),
    ("GET", "/v1/models/available/{hub_name}"),
    ("POST", "/v1/models/pull"),
    ("GET", "/v1/models/pull"),
    ("GET", "/v1/models/pull/{hub_name}"),
    ("POST", "/v1/models/pull/{hub_name}/cancel"),
    # Workers are everybody's; whose jobs are seen at them, and who drains them: tests/app/test_workers.py.
    ("GET", "/v1/workers"),
    ("GET", "/v1/workers/{worker_id}"),
    ("POST", "/v1/workers/{worker_id}/drain"),
    ("POST", "/v1/workers/{worker_id}/undrain"),
    ("GET", "/v1/queue"),
    # The operator's: tests/app/test_project_limits.py.
    ("POST", "/v1/projects/{project_id}"),
    # The operator's: tests/app/test_monitoring.py.
    ("GET", "/metrics"),
}
#: Who sees and makes keys and projects of whom: tests/app/test_key_routes.py.
ACCESS = {("POST", "/v1/api_keys"), ("GET", "/v1/projects"), ("POST", "/v1/projects")}
#: The operator's to set, and the same for everybody: tests/app/test_usage.py.
PRICES = {("GET", "/v1/prices"), ("POST", "/v1/prices")}
#: Numbers of the caller's own project: tests/app/test_storage.py, tests/app/test_usage.py.
OWN_SUMS = {("GET", "/v1/storage"), ("GET", "/v1/usage"), ("GET", "/v1/usage.csv")}
#: Work on what the request itself brings.
COMPUTATIONS = {
    ("POST", "/v1/fine_tuning/alpha/graders/run"),
    ("POST", "/v1/fine_tuning/alpha/graders/validate"),
}


def send(api: Api, route: Route, path: str, key: str | None, body: Any = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    url = api.url + path + QUERIES.get(route, "")
    return httpx.request(route[0], url, headers=headers, json=body)


def filled(body: Any, ids: dict[str, str]) -> Any:
    """A body with the names in braces replaced."""
    if isinstance(body, dict):
        return {key: filled(value, ids) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(value, ids) for value in body]
    name = body[1:-1] if isinstance(body, str) and body[:1] == "{" and body[-1:] == "}" else None
    return ids.get(name, body) if name else body


def test_every_route_without_parameters_is_known():
    plain = {(method, path) for method, path in ROUTES if "{" not in path} - SHARED
    assert not SHARED - set(ROUTES)
    known = LISTINGS | REFERENCES | CREATIONS | ACCESS | PRICES | OWN_SUMS | CONSTANT | COMPUTATIONS
    assert plain == known, "say above what a stranger may see of a new route"


def test_a_stranger_finds_nothing(keyed: Keyed, belongings: Belongings):
    api, (mine, theirs) = keyed.api, keyed.secrets
    # An id of the same form that nobody has.
    nothing = {
        name: value[:-1] + ("0" if value[-1] != "0" else "1") for name, value in belongings.ids.items()
    }
    nothing["rollout_id"] = "rollout-999999"
    # What the owner can do, last of all what removes something.
    last = [
        ("DELETE", "/v1/evals/{eval_id}/runs/{run_id}"),
        ("DELETE", "/v1/evals/{eval_id}"),
        ("DELETE", "/v1/fine_tuning/jobs/{fine_tuning_job_id}"),
    ]
    for route in sorted(ROUTES, key=lambda one: (one[0] == "DELETE", last.index(one) if one in last else -1)):
        template = route[1]
        if route in SHARED or ("{" not in template and route not in REFERENCES):
            continue
        path, body = belongings.path(template), BODIES.get(route)
        refused = send(api, route, path, theirs, filled(body, belongings.ids))
        absent = send(api, route, template.format(**nothing), theirs, filled(body, nothing))
        assert refused.status_code == absent.status_code, (route, refused.text)
        assert refused.status_code == 404 or route in REFERENCES, (route, refused.text)
        assert told(refused, belongings.ids) == told(absent, nothing), route
        own = send(api, route, path, mine, filled(body, belongings.ids))
        assert own.status_code not in (401, 403, 404, 405, 422, 500), (route, own.text)
        assert told(own, belongings.ids) != told(refused, belongings.ids), route


def told(answer: httpx.Response, ids: dict[str, str]) -> str:
    """What an answer says, with ids made alike."""
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return text


def test_a_strangers_lists_are_empty(keyed: Keyed, belongings: Belongings):
    api, (mine, theirs) = keyed.api, keyed.secrets
    for route in sorted(LISTINGS):
        path = route[1]
        own, foreign = send(api, route, path, mine), send(api, route, path, theirs)
        mentioned = [value for value in belongings.ids.values() if value in own.text]
        assert own.status_code == foreign.status_code == 200
        assert mentioned, f"{path} shows the owner nothing: this test could not fail"
        assert not [value for value in belongings.ids.values() if value in foreign.text], path
        cursor = send(api, route, f"{path}?after={mentioned[0]}", theirs)
        assert cursor.status_code == 400, f"{path}: a stranger cannot even point there"


@on_sqlite
def test_what_a_stranger_makes_is_not_the_owners(keyed: Keyed):
    made = {
        ("POST", "/v1/files"): ("/v1/files", keyed.api.upload(keyed.stranger, sums(1))),
        ("POST", "/v1/webhook_endpoints"): ("/v1/webhook_endpoints", new_webhook(keyed.stranger)),
        ("POST", "/v1/experiments"): ("/v1/experiments", new_experiment(keyed.stranger)),
        ("POST", "/v1/evals"): ("/v1/evals", new_eval(keyed.stranger)),
    }
    assert made.keys() == CREATIONS
    for path, identifier in made.values():
        for key, status in zip(keyed.secrets, (404, 200), strict=True):
            assert send(keyed.api, ("GET", path), f"{path}/{identifier}", key).status_code == status


@on_sqlite
def test_every_route_wants_a_key(keyed: Keyed, belongings: Belongings):
    for route in ROUTES:
        path = belongings.path(route[1])
        for key in (None, "sk-" + "x" * 43, "x", keyed.secrets[0][:-1]):
            # A body that is no good is not even looked at.
            answer = send(keyed.api, route, path, key, body={"no": "such"})
            assert answer.status_code == 401, (route, key, answer.text)
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["x-request-id"]
