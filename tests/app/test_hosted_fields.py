"""Fields of the hosted API's requests: what each does here, or that it does nothing, which the job says."""

import json
from typing import Any

import openai
import pytest

from app.core.db import read_session
from app.core.tables import Job
from tests.fixtures.api import GRADER, Api, create_job, on_sqlite, sums
from trainer.graders.response_format import ResponseFormat
from trainer.spec.chat_template import effort_switch
from trainer.spec.run import RunSpec

FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    },
}


def created(
    client: openai.OpenAI, api: Api, **reinforcement: Any
) -> tuple[dict[str, Any], RunSpec, list[str]]:
    """The method as the job shows it, what will run, and what was told."""
    job = create_job(client, api, api.upload(client, sums()), reinforcement=reinforcement)
    with read_session() as session:
        row = session.get_one(Job, job.id)
        spec, shown = RunSpec.model_validate(row.run_spec), row.method["reinforcement"]
    told = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    return shown, spec, told


@on_sqlite
def test_a_response_format_is_shown_and_runs(client: openai.OpenAI, api: Api):
    shown, spec, _ = created(client, api, response_format=FORM)
    assert shown["response_format"]["json_schema"] == FORM["json_schema"] | {"description": None}
    assert spec.response_format == ResponseFormat.model_validate(FORM)
    # What is shown can be sent again, as a clone of the job is.
    again, _, _ = created(client, api, response_format=shown["response_format"])
    assert again["response_format"] == shown["response_format"]
    assert created(client, api)[1].response_format is None


@on_sqlite
@pytest.mark.parametrize(
    ("form", "param", "says"),
    [
        ({"type": "json_schema"}, "", "json_schema is only allowed with the type 'json_schema'"),
        ({"type": "json_schema", "name": "a", "schema": {}}, "", "put them in json_schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "objekt"}}},
            ".json_schema.schema",
            "at $.type: 'objekt' is not valid",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#/nowhere"}}},
            ".json_schema.schema",
            "does not exist in the schema",
        ),
        ({"type": "xml"}, ".type", "'text', 'json_object' or 'json_schema'"),
    ],
)
def test_a_response_format_that_cannot_be_checked_is_refused(
    client: openai.OpenAI, api: Api, form: dict[str, Any], param: str, says: str
):
    with pytest.raises(openai.BadRequestError) as refused:
        created(client, api, response_format=form)
    assert says in refused.value.message
    assert refused.value.param == f"method.reinforcement.response_format{param}"


@on_sqlite
def test_a_form_is_forced_where_the_job_says_so(client: openai.OpenAI, api: Api):
    forced = {"rollout": {"force_response_format": True}}
    shown, spec, _ = created(client, api, response_format=FORM, **forced)
    assert shown["rollout"]["force_response_format"] is True
    assert spec.rollout.force_response_format
    assert not created(client, api, response_format=FORM)[1].rollout.force_response_format
    unfollowed = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {"type": "null"}}}}
    created(client, api, response_format=unfollowed)  # it can be checked
    for wrong, param, says in (
        (
            {"response_format": unfollowed},
            ".response_format.json_schema.schema",
            'Unimplemented keys: ["not"]',
        ),
        ({}, "", "there is no response_format to enforce"),
        (
            {"response_format": FORM, "algorithm": {"type": "grpo", "rollout_importance_cap": 0}},
            "",
            "algorithm.rollout_importance_cap is 0",
        ),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            created(client, api, **forced, **wrong)
        assert says in refused.value.message
        assert refused.value.param == f"method.reinforcement{param}"


@on_sqlite
def test_a_grader_reads_only_what_the_form_allows(client: openai.OpenAI, api: Api):
    reads = GRADER | {"input": "{{sample.output_json.answer}}"}
    created(client, api, response_format=FORM, grader=reads)
    wrong = GRADER | {"input": "{{sample.output_json.anser}}"}
    created(client, api, grader=wrong)  # nothing says what there is
    with pytest.raises(openai.BadRequestError) as refused:
        created(client, api, response_format=FORM, grader=wrong)
    assert refused.value.param == "method.reinforcement.grader"
    assert "'sample.output_json.anser', which response_format does not allow" in refused.value.message
    assert "it has no 'anser'. Its fields are: answer." in refused.value.message


@on_sqlite
def test_the_effort_reaches_a_template_that_has_one(client: openai.OpenAI, api: Api):
    effort = {"reasoning_effort": "medium"}
    shown, spec, told = created(client, api, hyperparameters=effort)
    assert shown["hyperparameters"]["reasoning_effort"] == "medium"
    assert spec.chat_template_kwargs == shown["chat_template_kwargs"] == {}
    assert [one for one in told if "reasoning_effort is 'medium', which has no effect" in one]

    file = api.folder / "models" / "tiny" / "tokenizer_config.json"
    config = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(config | {"chat_template": "{{ reasoning_effort }}{{ messages }}"}))
    shown, spec, told = created(client, api, hyperparameters=effort)
    assert spec.chat_template_kwargs == shown["chat_template_kwargs"] == {"reasoning_effort": "medium"}
    assert not [one for one in told if "effort" in one]
    created(client, api, hyperparameters=effort, chat_template_kwargs={"reasoning_effort": "medium"})
    for quiet in ({}, {"reasoning_effort": "default"}, {"reasoning_effort": None}):
        shown, spec, told = created(client, api, hyperparameters=quiet)
        assert (spec.chat_template_kwargs, shown["hyperparameters"]["reasoning_effort"]) == ({}, "default")
        assert not [one for one in told if "effort" in one]
    with pytest.raises(openai.BadRequestError, match="contradict each other"):
        created(client, api, hyperparameters=effort, chat_template_kwargs={"reasoning_effort": "low"})
    with pytest.raises(openai.BadRequestError, match="'default', 'low', 'medium' or 'high'"):
        created(client, api, hyperparameters={"reasoning_effort": "highest"})


@on_sqlite
def test_the_effort_turns_on_a_switch_without_degrees(client: openai.OpenAI, api: Api):
    template = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    (api.folder / "models" / "tiny" / "chat_template.jinja").write_text(template)
    for effort in ("low", "medium", "high"):
        shown, spec, told = created(client, api, hyperparameters={"reasoning_effort": effort})
        assert spec.chat_template_kwargs == shown["chat_template_kwargs"] == {"enable_thinking": True}
        assert [one for one in told if f"{effort!r}: the model's chat template knows no degrees" in one]
    shown, spec, told = created(client, api, hyperparameters={"reasoning_effort": "default"})
    assert spec.chat_template_kwargs == {}
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    assert created(client, api, **off)[1].chat_template_kwargs == {"enable_thinking": False}
    with pytest.raises(openai.BadRequestError, match=r"'.*enable_thinking' \(False\) contradict each other"):
        created(client, api, hyperparameters={"reasoning_effort": "low"}, **off)


@pytest.mark.parametrize(
    ("template", "switch"),
    [
        ("{%- set reasoning_effort = reasoning_effort or 'medium' %}", "reasoning_effort"),
        ("{%- if enable_thinking is defined and enable_thinking is false %}x{% endif %}", "enable_thinking"),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}", "thinking"),
        ("{%- if thinking %}Respond to every user query …{%- endif %}", "thinking"),
        ("{%- elif documents and not thinking -%}", "thinking"),
        ("{% if message.thinking %}{{ message.thinking }}{% endif %}", None),
        ("{% if 'thinking' in message and message['thinking'] %}x{% endif %}", None),
        ("{% for m in messages %}You are thinking. {{ m.content }}{% endfor %}", None),
        ("", None),
    ],
)
def test_a_templates_own_switch_is_found(template: str, switch: str | None):
    assert effort_switch(template) == switch


@on_sqlite
def test_a_pass_threshold_is_shown_and_told_to_be_without_effect(client: openai.OpenAI, api: Api):
    grader = GRADER | {"pass_threshold": 0.5}
    shown, spec, told = created(client, api, grader=grader)
    assert shown["grader"]["pass_threshold"] == 0.5
    assert spec.grader is not None and spec.grader.pass_threshold == 0.5
    assert "pass_threshold of the grader 'exact' has no effect on its rewards." in told
    several = {"type": "multi", "name": "m", "graders": {"exact": grader}, "calculate_output": "exact / 2"}
    assert len([one for one in created(client, api, grader=several)[2] if "pass_threshold" in one]) == 1
    ran = client.fine_tuning.alpha.graders.run(
        grader=grader,  # type: ignore[arg-type]
        model_sample="6",
        item={"answer": "6"},
    )
    assert ran.reward == 1.0


@on_sqlite
def test_the_older_place_of_hyperparameters_counts(client: openai.OpenAI, api: Api):
    file, method = api.upload(client, sums()), {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    older: Any = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}
    job = client.fine_tuning.jobs.create(
        model=api.model,
        training_file=file,
        hyperparameters=older,
        method=method,  # type: ignore[arg-type]
    )
    assert job.hyperparameters.to_dict() == older | {"batch_size": 8}
    assert create_job(client, api, file, hyperparameters={}).hyperparameters.n_epochs == 1
    same = {"hyperparameters": {"n_epochs": 2}}
    assert create_job(client, api, file, **same, reinforcement=same).hyperparameters.n_epochs == 2


@on_sqlite
def test_the_method_of_an_exported_job_is_taken(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}, "supervised": None, "dpo": None}
    assert create_job(client, api, file, method=method).status == "queued"
