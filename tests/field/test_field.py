"""Cases that people reported of other products, with the right value of each; ``source`` says where.

``graders.json`` has gradings, ``requests.json`` job requests, and the JSONL files are uploads.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import TypeAdapter

from tests.fixtures.api import Api, on_sqlite, sums
from tests.fixtures.http_server import Reply, Request, Server, chat
from trainer.graders.build import build_grader
from trainer.graders.grade import Grader, Sample
from trainer.graders.spec import Grader as GraderSpec

HERE = Path(__file__).parent
SPECS: TypeAdapter[Any] = TypeAdapter(GraderSpec)
GRADINGS: list[dict[str, Any]] = json.loads((HERE / "graders.json").read_text())
REQUESTS: list[dict[str, Any]] = json.loads((HERE / "requests.json").read_text())
UPLOADS = ["bom.jsonl", "name-null.jsonl", "text-parts.jsonl", "developer.jsonl", "tools.jsonl"]


@pytest.fixture(scope="module")
def graders() -> Iterator[dict[str, Grader]]:
    """By definition, built once: many cases have the same one."""
    built: dict[str, Grader] = {}
    yield built
    for grader in built.values():
        grader.close()


def system_first(request: Request) -> Reply:
    """A judge with the rule of Qwen 3.5's template."""
    if any(one["role"] == "system" for one in request.json["messages"][1:]):
        return Reply({"error": {"message": "System message must be at the beginning."}}, status=400)
    return chat({"reasoning": "ok", "result": 1})


@pytest.mark.parametrize("case", GRADINGS, ids=[case["id"] for case in GRADINGS])
def test_a_grading(
    case: dict[str, Any], graders: dict[str, Grader], server: Server, monkeypatch: pytest.MonkeyPatch
):
    server.answer = system_first
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    key = json.dumps(case["grader"])
    if key not in graders:
        graders[key] = build_grader(SPECS.validate_python(case["grader"]), workers=1)
    (grade,) = graders[key].grade_many([Sample.of(case["item"], case["model_sample"])])
    if "not_reward" in case["expect"]:
        assert grade.reward != case["expect"]["not_reward"]
    else:
        assert (grade.reward, grade.error) == (case["expect"]["reward"], None)


@on_sqlite
@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload(client: openai.OpenAI, api: Api, name: str):
    assert api.upload(client, (HERE / name).read_bytes())


@on_sqlite
@pytest.mark.parametrize("case", REQUESTS, ids=[case["id"] for case in REQUESTS])
def test_a_request(client: openai.OpenAI, api: Api, case: dict[str, Any]):
    method = {"type": "reinforcement", "reinforcement": case["reinforcement"]}
    body = {"model": api.model, "training_file": api.upload(client, sums()), "method": method}
    answer = httpx.post(f"{api.url}/v1/fine_tuning/jobs/validate", json=body)
    assert answer.status_code == case["expect"]["status"], answer.text
