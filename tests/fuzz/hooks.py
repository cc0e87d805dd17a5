"""What schemathesis cannot know of this API: it loads this through ``SCHEMATHESIS_HOOKS``.

``FUZZ_IDS`` has what there is: ``{"read": {name: id}, "removed": {name: id}}``. The file ``FUZZ_ANSWERS``
gets how often each operation answered with each class of status: ``{"GET /v1/files": {"2xx": 5}}``.
"""

import atexit
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

from tests.fixtures.api import GRADER

#: What an error says of a request's form. The description has the form, so what fits it is never told this.
ABOUT_FORM = {"invalid_type", "missing_required_parameter", "unknown_parameter", "invalid_json"}
#: … but for what stands in for something else, or depends on it: OpenAPI has no words for that.
DEPENDENT = {"training_file", "name"}
#: As at OpenAI, an integer is written without a fraction; JSON Schema takes 3.0 for one.
WITH_FRACTION = re.compile(r": -?\d+(\.0)?(e\+?\d+)?\. Input should be a valid integer")
#: What an experiment's base, task and arm make together is told like this; a schema sees them one by one.
TOGETHER = re.compile(r"Arm '.*?' on task '.*?': ")
#: Characters that no text may have, anywhere in a body: nor has it words for these.
NOT_TEXT = ("U+0000", "surrogate")
JOBS = "/v1/fine_tuning/jobs"


_answers: dict[str, Counter[str]] = defaultdict(Counter)


@atexit.register
def _write_answers() -> None:
    Path(os.environ["FUZZ_ANSWERS"]).write_text(json.dumps(_answers))


@schemathesis.hook
def after_call(_context: HookContext, case: Case, response: Response) -> None:
    """Count the answer."""
    _answers[case.operation.label][f"{response.status_code // 100}xx"] += 1


@schemathesis.hook
def before_load_schema(_context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Examples that exist here; and answers have no field that is not described, which clients are not
    promised, but we are."""
    existing = json.loads(os.environ["FUZZ_IDS"])
    for path, operations in raw_schema["paths"].items():
        for method, operation in operations.items():
            ids = existing["removed" if method == "delete" else "read"]
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["example"] = ids[parameter["name"]]
            if (method, path) in (bodies := _bodies(ids)):
                content = operation["requestBody"]["content"]
                content["application/json"]["example"] = bodies[method, path]
            _forbid_more(operation["responses"].get("200"), raw_schema["components"]["schemas"])


def _bodies(ids: dict[str, str]) -> dict[tuple[str, str], Any]:
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    shared = "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"
    return {
        ("post", JOBS): {"model": "tiny", "training_file": ids["file_id"], "method": method},
        ("post", shared): {"project_ids": [ids["other_project"]]},
        ("post", "/v1/chat/completions"): {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hi"}],
        },
        ("post", "/v1/webhook_endpoints"): {
            "name": "x",
            "url": "https://nowhere.invalid/",
            "event_types": ["fine_tuning.job.failed"],
        },
    }


def _forbid_more(part: Any, components: dict[str, Any]) -> None:
    """No object below ``part`` has a property that is not named."""
    pending, seen = [part], set()
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending.extend(part)
        elif isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                seen.add(reference)
                pending.append(components[reference.rpartition("/")[2]])
            if "properties" in part:
                part.setdefault("additionalProperties", False)
            pending.extend(part.values())


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Jobs on what there is, so that some are taken in."""
    operation = context.operation
    if operation is None or operation.label != f"POST {JOBS}" or not isinstance(body, dict):
        return body
    ids = json.loads(os.environ["FUZZ_IDS"])["read"]
    if isinstance(body.get("model"), str) and 1 <= len(body["model"]) <= 512:
        body["model"] = "tiny"
    if isinstance(body.get("training_file"), str | None) and body.get("environment") is None:
        body["training_file"] = ids["file_id"]
    if isinstance(body.get("validation_file"), str):
        body["validation_file"] = ids["file_id"]
    return body


@schemathesis.check
def refusals_have_reasons(_context: CheckContext, response: Response, case: Case) -> None:
    """What fits the description may be refused for what it means, never for its form."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    said = error["message"]
    if any(character in said for character in NOT_TEXT) or WITH_FRACTION.search(said) or TOGETHER.match(said):
        return
    if error["code"] in ABOUT_FORM and error["param"] not in DEPENDENT:
        raise AssertionError(f"the description allows what is refused for its form: {error['message']}")
