"""The page of hosted fields has every field of the locked SDK's types, and says of each what is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from tests.fixtures.sdk_fields import sdk_fields

PAGE = (Path(__file__).parents[2] / "docs/guides/hosted-fields.md").read_text()
FIELDS = sdk_fields()
DOCUMENT: dict[str, Any] = create_app().openapi()
JOBS, FILES, EVALS = "/v1/fine_tuning/jobs", "/v1/files", "/v1/evals"
PERMISSIONS = "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"
#: Where the API's description has what the SDK has a type of: a schema, or an operation's parameters or form.
PLACES = {
    "JobCreateParams": "CreateJob",
    "ReinforcementMethod": "Reinforcement",
    "ReinforcementHyperparameters": "Hyperparameters",
    "SupervisedMethod": "Supervised",
    "SupervisedHyperparameters": "SupervisedHyperparameters",
    "DpoMethod": "Dpo",
    "DpoHyperparameters": "DpoHyperparameters",
    "JobListParams": f"get {JOBS}",
    "FineTuningJob": "JobObject",
    "FineTuningJobWandbIntegrationObject": "WandbIntegration",
    "FineTuningJobWandbIntegration": "WandbOptions",
    "JobListEventsParams": f"get {JOBS}/{{fine_tuning_job_id}}/events",
    "FineTuningJobEvent": "EventObject",
    "CheckpointListParams": f"get {JOBS}/{{fine_tuning_job_id}}/checkpoints",
    "FineTuningJobCheckpoint": "CheckpointObject",
    "PermissionCreateParams": "CreatePermissions",
    "PermissionCreateResponse": "PermissionObject",
    "PermissionListParams": f"get {PERMISSIONS}",
    "PermissionListResponse": "PermissionObject",
    "PermissionRetrieveParams": f"get {PERMISSIONS}",
    "PermissionRetrieveResponse": "ListOfPermissionObject",
    "PermissionDeleteResponse": "PermissionDeleted",
    "FileCreateParams": f"post {FILES}",
    "FileListParams": f"get {FILES}",
    "FileObject": "FileObject",
    "FileDeleted": "FileDeleted",
    "EvalCreateParams": "CreateEval",
    "EvalUpdateParams": "UpdateEval",
    "EvalListParams": f"get {EVALS}",
    "EvalResponse": "EvalObject",
    "EvalCustomDataSourceConfig": "EvalDataSourceConfig",
    "EvalStoredCompletionsDataSourceConfig": "EvalDataSourceConfig",
    "EvalDeleteResponse": "EvalDeleted",
    "RunCreateParams": "CreateEvalRun",
    "CreateEvalJSONLRunDataSource": "JsonlRun",
    "CreateEvalCompletionsRunDataSource": "CompletionsRun",
    "RunListParams": f"get {EVALS}/{{eval_id}}/runs",
    "RunResponse": "EvalRunObject",
    "RunDeleteResponse": "EvalRunDeleted",
    "OutputItemListParams": f"get {EVALS}/{{eval_id}}/runs/{{run_id}}/output_items",
    "OutputItemResponse": "OutputItemObject",
    "EvalAPIError": "EvalRunError",
    "GraderRunParams": "RunGrader",
    "GraderRunResponse": "GraderRun",
    "GraderValidateParams": "ValidateGrader",
    "GraderValidateResponse": "ValidGrader",
} | {
    name: name
    for name in (
        "StringCheckGrader",
        "TextSimilarityGrader",
        "PythonGrader",
        "ScoreModelGrader",
        "LabelModelGrader",
        "MultiGrader",
    )
}
#: What a row may say, and whether the API's description has the field then.
VERDICTS = {
    "accepted": True,
    "without effect": True,
    "given": True,
    "null": True,
    "refused": False,
    "left out": False,
}


def rows(kind: str) -> list[tuple[list[str], str, str]]:
    """Fields, verdict and explanation of each row below the heading of ``kind``."""
    section = re.search(rf"^### {kind}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert section, f"the page has no section '### {kind}'"
    found = re.findall(r"^\| (`.*?) \| (.*?) \| ?(.*?) ?\|$", section[1], re.M)
    return [(re.findall(r"`([\w.]+)`", fields), verdict, what) for fields, verdict, what in found]


@pytest.mark.parametrize("kind", FIELDS)
def test_the_page_has_each_field_once(kind: str) -> None:
    told = [field for fields, _, _ in rows(kind) for field in fields]
    assert sorted(told) == sorted(FIELDS[kind])


def test_the_page_has_no_other_types() -> None:
    headings = set(re.findall(r"^### (\w+)$", PAGE, re.M))
    assert headings == FIELDS.keys() == PLACES.keys()


@pytest.mark.parametrize("kind", FIELDS)
def test_what_the_page_says_is_so(kind: str) -> None:
    """As far as the description tells, which other tests hold against what the service does."""
    schema = schema_of(PLACES[kind])
    for fields, verdict, what in rows(kind):
        assert verdict in VERDICTS, f"{kind}: {verdict}"
        assert what or verdict in ("accepted", "given"), f"{kind}: {verdict}, but why?"
        for field in fields:
            described = is_described(schema, field.split("."))
            assert described in (VERDICTS[verdict], None), f"{kind}.{field} is not {verdict!r}"


def schema_of(place: str) -> dict[str, Any]:
    """The schema of that name, or one that has an operation's parameters and form as its properties."""
    if " " not in place:
        return DOCUMENT["components"]["schemas"][place]
    method, _, path = place.partition(" ")
    operation = DOCUMENT["paths"][path][method]
    form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data")
    parameters = {one["name"]: one["schema"] for one in operation.get("parameters", [])}
    return form["schema"] if form else {"type": "object", "properties": parameters}


def is_described(schema: dict[str, Any], path: list[str]) -> bool | None:
    """Whether the schema has a property there; None: it allows any, and says nothing of it."""
    if "$ref" in schema:
        return is_described(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], path)
    if not path:
        return True
    inside = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if "items" in schema:
        inside.append(schema["items"])
    if path[0] in schema.get("properties", {}):
        return is_described(schema["properties"][path[0]], path[1:])
    found = [is_described(one, path) for one in inside]
    if schema.get("additionalProperties") not in (None, False):
        found.append(None)
    return True if True in found else None if None in found else False
