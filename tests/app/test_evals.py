"""Evals and their runs over the SDK's own ``client.evals``: what is taken in, shown, refused and removed."""

import json
import time
from typing import Any

import httpx
import openai
import pytest
from openai.pagination import SyncCursorPage
from openai.types import EvalCreateResponse, EvalListResponse, EvalRetrieveResponse
from openai.types.evals import RunCreateResponse, RunListResponse, RunRetrieveResponse

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import Eval, EvalRun, File
from app.evals.comparison import EvalComparison
from app.evals.deletion import remove_deleted
from app.storage.expiry import DAY
from tests.app.test_sdk_types import strictly
from tests.fixtures.api import GRADER, Api, jsonl, on_sqlite, sums
from tests.fixtures.described import check_described
from tests.fixtures.evals import CONFIG, STRICT, TEMPLATE, answered, asked, ended_run, new_eval, new_run
from worker.retention import expire

pytestmark = on_sqlite
ITEM = {"question": "2 + 2?", "answer": "4"}


class OurRun(RunRetrieveResponse):
    """The SDK's run; its error is null where there is none, as hosted runs have it."""

    error: Any  # type: ignore[assignment]


def evals_file(client: openai.OpenAI, rows: list[Any]) -> str:
    return client.files.create(file=("items.jsonl", jsonl(rows)), purpose="evals").id


def test_an_eval_is_what_the_sdks_types_declare(client: openai.OpenAI, api: Api):
    made = client.evals.with_raw_response.create(
        name="sums",
        data_source_config=STRICT,  # type: ignore[arg-type]
        testing_criteria=[GRADER, GRADER],  # type: ignore[list-item]
        metadata={"team": "a"},
    )
    one = strictly(EvalCreateResponse, made.text)
    assert [criterion.name for criterion in one.testing_criteria] == ["exact", "exact-2"]
    assert one.data_source_config.schema_["properties"]["item"] == STRICT["item_schema"]
    assert client.evals.retrieve(one.id).to_dict() == json.loads(made.text)
    strictly(EvalRetrieveResponse, httpx.get(f"{api.url}/v1/evals/{one.id}").text)
    listed = strictly(SyncCursorPage[EvalListResponse], httpx.get(f"{api.url}/v1/evals").text)
    assert [other.id for other in listed.data] == [one.id]
    changed = client.evals.update(one.id, name="all sums", metadata={})
    assert (changed.name, changed.metadata) == ("all sums", None)
    gone = client.evals.delete(one.id)
    assert (gone.eval_id, gone.deleted, gone.object) == (one.id, True, "eval.deleted")
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(one.id)


def test_a_run_is_what_the_sdks_types_declare(client: openai.OpenAI, api: Api):
    eval_id = new_eval(client)
    source: Any = answered("4", "5")
    raw = client.evals.runs.with_raw_response.create(eval_id, data_source=source, metadata={"a": "b"})
    made: Any = strictly(OurRun, raw.text)
    assert made.status == "queued" and made.error is None
    assert made.result_counts.total == 0 and made.to_dict()["progress"]["total_items"] == 2
    assert made.report_url == f"{api.url}/#/evals/{eval_id}/runs/{made.id}"
    url = f"{api.url}/v1/evals/{eval_id}/runs"
    assert strictly(OurRun, httpx.get(f"{url}/{made.id}").text) == made
    (listed,) = strictly(SyncCursorPage[OurRun], httpx.get(url).text).data
    assert listed.data_source.source.content == [], "rows of a request are not in lists"
    assert listed.id == made.id
    shapes = (RunCreateResponse, RunListResponse, RunRetrieveResponse)
    assert len({tuple(one.model_fields) for one in shapes}) == 1, "one of them would do"
    client.evals.runs.cancel(made.id, eval_id=eval_id)
    gone = client.evals.runs.delete(made.id, eval_id=eval_id)
    assert (gone.run_id, gone.deleted, gone.object) == (made.id, True, "eval.run.deleted")
    assert client.evals.runs.list(eval_id).data == []


REFUSED_EVALS: list[tuple[dict[str, Any], str]] = [
    ({"data_source_config": {"type": "logs"}}, "answers are not stored here"),
    ({"data_source_config": {"type": "stored_completions", "metadata": {}}}, "answers are not stored here"),
    ({"data_source_config": {"type": "custom"}}, "'data_source_config.item_schema'"),
    (
        {"data_source_config": {"type": "custom", "item_schema": {"type": "nothing"}}},
        "data_source_config.item_schema': the schema does not load",
    ),
    ({"testing_criteria": []}, "testing_criteria"),
    ({"testing_criteria": [{"type": "label"}]}, "should be one of"),
    ({"testing_criteria": [GRADER | {"input": "{{row.x}}"}]}, "template variable 'row.x' is unknown"),
    (
        {"testing_criteria": [{"type": "python", "name": "p", "source": "def grade(sample, item): ("}]},
        "testing_criteria.0",
    ),
    (
        {
            "testing_criteria": [
                {
                    "type": "score_model",
                    "name": "s",
                    "model": "m",
                    "input": [{"role": "user", "content": "x"}],
                }
            ]
        },
        "the operator has no endpoint 'default'",
    ),
    ({"name": ""}, "name"),
    ({"metadata": {"a": "b" * 513}}, "metadata"),
    ({"owner": "me"}, "Unknown parameter: 'owner'"),
]


def test_an_eval_that_cannot_work_is_refused(http: httpx.Client):
    for change, says in REFUSED_EVALS:
        body = {"name": "x", "data_source_config": CONFIG, "testing_criteria": [GRADER]} | change
        answer = http.post("/v1/evals", json=body)
        assert answer.status_code == 400 and says in answer.json()["error"]["message"], answer.text


JSONL = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": ITEM}]}}
REFERENCE = {"type": "item_reference", "item_reference": "item.chat"}
REFUSED_RUNS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": []}},
        "data_source.source.content",
        "give at least one row",
    ),
    (JSONL, "data_source.source", "Row 1: the criteria read the answer, but its 'sample' has none"),
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"question": 1}}]}},
        "data_source.source",
        "Row 1: its item does not fit the eval's item_schema: ",
    ),
    (
        {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"question": "?"}}]}},
        "data_source.source",
        "a criterion reads 'item.answer', which its item does not have",
    ),
    (
        {"type": "jsonl", "source": {"type": "file_id", "id": "file-x"}},
        "data_source.source.id",
        "file does not exist",
    ),
    (
        {"type": "jsonl", "source": {"type": "stored_completions"}},
        "data_source.source",
        "answers are not stored",
    ),
    (asked("tiny", ITEM, source={"type": "responses"}), "data_source.source", "answers are not stored here"),
    (asked("missing", ITEM), "data_source.model", "'missing' does not exist"),
    (asked("tiny", ITEM, mode="high-entropy"), "data_source.mode", "has no high-entropy mode"),
    (asked("tiny", ITEM, endpoint="theirs"), "data_source.endpoint", "the operator has no endpoint 'theirs'"),
    (asked("tiny", ITEM, mode="normal", endpoint="theirs"), "data_source", "leave one out"),
    (asked("tiny", ITEM, sampling_params={"temperature": 3}), "data_source.sampling_params.temperature", "2"),
    (
        asked("tiny", ITEM, input_messages=REFERENCE),
        "data_source.input_messages",
        "Row 1: the template variable",
    ),
    (
        asked("tiny", ITEM | {"chat": [{"role": "user"}]}, input_messages=REFERENCE),
        "data_source.input_messages",
        "Row 1: ",
    ),
    (
        asked("tiny", ITEM, input_messages=REFERENCE | {"item_reference": "chat"}),
        "data_source.input_messages.item_reference",
        "is not a field of the item",
    ),
    (
        asked(
            "tiny",
            ITEM,
            input_messages={
                "type": "template",
                "template": [{"role": "user", "content": "{{sample.output_text}}"}],
            },
        ),
        "data_source.input_messages.template.0",
        "which does not exist yet",
    ),
    (
        asked(
            "tiny",
            ITEM,
            input_messages={
                "type": "template",
                "template": [{"role": "user", "content": {"type": "input_image", "image_url": "x"}}],
            },
        ),
        "data_source.input_messages.template.0.content.type",
        "input_text",
    ),
]


def test_a_run_that_cannot_work_is_refused(client: openai.OpenAI, http: httpx.Client):
    eval_id = new_eval(client, data_source_config=STRICT)
    for source, param, says in REFUSED_RUNS:
        answer = http.post(f"/v1/evals/{eval_id}/runs", json={"data_source": source})
        error = answer.json()["error"]
        assert answer.status_code == 400 and says in error["message"], answer.text
        assert error["param"] == param, answer.text


def test_files_of_both_purposes_have_items(client: openai.OpenAI, api: Api):
    eval_id = new_eval(client)
    of_evals = evals_file(client, [{"item": ITEM}, {"item": ITEM}])
    of_training = api.upload(client, sums(3))
    for file, count, messages in (
        (of_evals, 2, TEMPLATE),
        (of_training, 3, {"type": "item_reference", "item_reference": "item.messages"}),
    ):
        source = {"type": "file_id", "id": file}
        made = new_run(client, eval_id, asked("tiny", source=source, input_messages=messages))
        with read_session() as session:
            assert session.get_one(EvalRun, made).total == count
        with pytest.raises(openai.ConflictError, match=f"used by run '{made}'"):
            client.files.delete(file)
        client.evals.runs.cancel(made, eval_id=eval_id)
        client.files.delete(file)
    with read_session() as session:
        assert session.query(File).count() == 0


def test_a_bad_row_of_a_file_for_evals_is_refused(client: openai.OpenAI):
    for row, says in (
        ({"messages": []}, "Line 1 has no object 'item'"),
        ({"item": 1}, "Line 1 has no object 'item'"),
        ({"item": {}, "sample": "4"}, "'sample' is"),
        ({"item": {}, "answer": "4"}, "has answer besides 'item' and 'sample'"),
    ):
        with pytest.raises(openai.BadRequestError, match=says):
            evals_file(client, [row])


def test_a_file_for_evals_is_none_to_train_on(client: openai.OpenAI, http: httpx.Client):
    file = evals_file(client, [{"item": ITEM}])
    answer = http.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file})
    assert "it should be 'fine-tune'" in answer.json()["error"]["message"]


def test_the_same_key_makes_one_eval_and_one_run(client: openai.OpenAI):
    def made(**more: Any) -> str:
        return new_eval(client, extra_headers={"Idempotency-Key": "once"}, **more)

    eval_id = made()
    assert made() == eval_id
    with pytest.raises(openai.ConflictError, match="was created from a different body"):
        made(name="another")
    runs = {
        new_run(client, eval_id, answered("4"), extra_headers={"Idempotency-Key": "once"}) for _ in range(2)
    }
    assert len(runs) == 1
    with pytest.raises(openai.ConflictError, match="of another eval"):
        new_run(client, new_eval(client), answered("4"), extra_headers={"Idempotency-Key": "once"})


def test_a_run_that_waits_is_paused_resumed_and_canceled_at_once(client: openai.OpenAI, http: httpx.Client):
    eval_id = new_eval(client)
    path = f"/v1/evals/{eval_id}/runs/{new_run(client, eval_id, answered('4'))}"

    def asks(action: str) -> tuple[int, str]:
        answer = http.post(f"{path}/{action}")
        told = answer.json()
        return answer.status_code, told.get("status") or told["error"]["message"]

    assert asks("resume") == (400, told_of(path, "resume", "queued", "only a paused run can be resumed"))
    assert asks("pause") == asks("pause") == (200, "paused")
    assert asks("resume") == (200, "queued")
    assert http.delete(path).status_code == http.delete(f"/v1/evals/{eval_id}").status_code == 409
    assert asks("cancel") == (200, "canceled")
    for action in ("cancel", "pause", "resume"):
        assert asks(action)[0] == 400


def told_of(path: str, action: str, status: str, rule: str) -> str:
    return f"Cannot {action} run '{path.rpartition('/')[2]}': it is {status}, and {rule}."


def test_lists_have_pages_an_order_and_a_filter(client: openai.OpenAI, http: httpx.Client):
    evals = [new_eval(client, name=f"e{number}") for number in range(3)]
    client.evals.update(evals[0], name="newest")
    assert [one.id for one in client.evals.list(limit=2)] == evals, "the client asks for all pages"
    by_change = client.evals.list(order_by="updated_at", order="desc", limit=1)
    assert [one.id for one in by_change] == [evals[0], evals[2], evals[1]]
    runs = [new_run(client, evals[0], answered("4")) for _ in range(3)]
    client.evals.runs.cancel(runs[1], eval_id=evals[0])
    assert [one.id for one in client.evals.runs.list(evals[0], limit=1, order="desc")] == runs[::-1]
    assert [one.id for one in client.evals.runs.list(evals[0], status="canceled")] == [runs[1]]
    for path in (
        "/v1/evals",
        f"/v1/evals/{evals[0]}/runs",
        f"/v1/evals/{evals[0]}/runs/{runs[0]}/output_items",
    ):
        assert "is not in this list" in http.get(path, params={"after": "nothing"}).text


def test_a_project_has_only_so_many_runs_and_items(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch):
    eval_id = new_eval(client)
    monkeypatch.setattr(get_settings(), "project_max_eval_items", 3)
    with pytest.raises(openai.BadRequestError, match="more than 3 items"):
        new_run(client, eval_id, answered(*"4444"))
    new_run(client, eval_id, answered(*"44"))
    with pytest.raises(openai.PermissionDeniedError, match="have 2 items; 2 more"):
        new_run(client, eval_id, answered(*"44"))
    monkeypatch.setattr(get_settings(), "project_max_eval_runs", 1)
    with pytest.raises(openai.PermissionDeniedError, match="1 runs; 1 more"):
        new_run(client, eval_id, answered("4"))


def test_items_expire_and_what_a_run_needs_does_not(
    client: openai.OpenAI, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(get_settings(), "retain_eval_items_days", 10.0)
    monkeypatch.setattr(get_settings(), "retain_files_days", 10.0)
    eval_id, file = new_eval(client), evals_file(client, [{"item": ITEM}])
    ended = ended_run(client, eval_id, {"a": True, "b": True}, "ended")
    with write_session() as session:
        session.get_one(EvalRun, ended).finished_at = time.time() - 4 * DAY
    waits = new_run(client, eval_id, asked("tiny", source={"type": "file_id", "id": file}))
    kept = {one["what"]: one["expiring_count"] for one in http.get("/v1/storage").json()["retention"]}
    assert (kept["eval_items"], kept["files"]) == (1, 0)
    expire(now=time.time() + 11 * DAY)
    assert client.evals.runs.output_items.list(ended, eval_id=eval_id).data == []
    assert client.evals.runs.retrieve(ended, eval_id=eval_id).result_counts.passed == 2, "its counts stay"
    compared = http.get(f"/v1/evals/{eval_id}/compare").json()
    assert compared["notes"] == ["The items of ended have expired; only its counts remain."]
    assert [one.id for one in client.files.list()] == [file]
    client.evals.runs.cancel(waits, eval_id=eval_id)
    expire(now=time.time() + 11 * DAY)
    assert client.files.list().data == []


def test_what_was_deleted_goes_with_all_that_it_owns(client: openai.OpenAI):
    kept, gone = new_eval(client), new_eval(client)
    runs = {one: new_run(client, one, answered("4")) for one in (kept, gone)}
    for one, run in runs.items():
        client.evals.runs.cancel(run, eval_id=one)
    client.evals.delete(gone)
    client.evals.runs.delete(runs[kept], eval_id=kept)
    remove_deleted()
    with write_session() as session:
        assert session.query(EvalRun).count() == 0
        assert [one.id for one in session.query(Eval)] == [kept]


def test_runs_are_compared_item_by_item(client: openai.OpenAI, http: httpx.Client):
    eval_id = new_eval(client)
    names = [f"item {number}" for number in range(200)]
    half = {name: number % 2 == 0 for number, name in enumerate(names)}
    base = ended_run(client, eval_id, half, "base")
    # In another order, of more items, and right on fifteen more.
    more = dict(reversed(half.items())) | dict.fromkeys(names[1:31:2], True) | {"another": True}
    better = ended_run(client, eval_id, more, "better")
    same = ended_run(client, eval_id, half, "same")
    path = f"/v1/evals/{eval_id}/compare"
    found = http.get(path)
    check_described(EvalComparison, found.text)
    told = found.json()
    assert [one["run_id"] for one in told["runs"]] == [base, better, same], "all that are completed"
    assert [one["mean"] for one in told["runs"]] == pytest.approx([0.5, 116 / 201, 0.5])
    first, second = told["pairs"]
    assert (first["items"], first["items_left_out"]) == (200, 1)
    assert first["delta"] == pytest.approx(15 / 200) and first["separated"] and first["better"] == better
    # The sign of fifteen differences is the same by chance once in 2^14; two pairs are shown.
    assert first["p"] < 0.001 and first["holm_p"] == pytest.approx(2 * first["p"])
    assert first["words"].startswith("better is better than base; better minus base: +0.0750, 97.5 % CI [+")
    assert (second["delta"], second["separated"], second["better"]) == (0, False, None)
    assert http.get(path, params={"metric": "exact"}).json()["pairs"] == told["pairs"], "the only criterion"
    alone = http.get(path, params={"runs": [better, base]}).json()
    assert alone["pairs"][0]["delta"] == pytest.approx(-15 / 200)
    assert alone["pairs"][0]["holm_p"] == alone["pairs"][0]["p"], "one pair is corrected for nothing"
    with write_session() as session:
        session.get_one(EvalRun, better).status = "paused"
    waits = http.get(path, params={"runs": [base, better]}).json()
    assert not waits["pairs"][0]["separated"] and "better is paused" in waits["notes"][0]
    for query, says in (
        ({"metric": "speed"}, "should be one of: passed, exact"),
        ({"runs": [base, base]}, "2 ids, 1 of them different"),
        ({"runs": ["evalrun_x"]}, "No such run"),
    ):
        assert says in http.get(path, params=query).json()["error"]["message"]


def test_runs_without_an_item_in_common_are_not_compared(client: openai.OpenAI, http: httpx.Client):
    eval_id = new_eval(client)
    for name in ("one", "two"):
        ended_run(client, eval_id, {name: True}, name)
    (pair,) = http.get(f"/v1/evals/{eval_id}/compare").json()["pairs"]
    assert (pair["delta"], pair["p"], pair["separated"]) == (None, None, False)
    assert pair["words"] == "two and one have no item in common."
