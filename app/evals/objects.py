"""Evals, runs and items as the API's description has them; ``app.evals.views`` makes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.evals.data_sources import DataSource
from app.evals.schemas import ItemStatus, RunStatus
from trainer.graders.spec import Grader

Metadata = Annotated[
    dict[str, str] | None, Field(description="Pairs that were given with it; null where there are none")
]


class EvalDataSourceConfig(BaseModel):
    """The form of a row."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["custom"] = Field(description="Always custom: rows are given with each run")
    schema_: dict[str, object] = Field(
        alias="schema", description="JSON schema of a whole row: item as it was given, and sample"
    )


class EvalObject(BaseModel):
    """What is asked of every run of it."""

    id: str = Field(description="What runs are made below, `eval_…`")
    object: Kind[Literal["eval"]]
    created_at: CreatedAt
    updated_at: int = Field(description="When its name or metadata last changed, Unix time in seconds")
    name: str = Field(description="What you call it")
    data_source_config: EvalDataSourceConfig = Field(description="The form of the rows that its runs have")
    testing_criteria: list[Grader] = Field(
        description="The graders as they were given; of several with one name the later ones have a number"
    )
    metadata: Metadata


class EvalDeleted(BaseModel):
    """The answer to an eval's deletion."""

    object: Kind[Literal["eval.deleted"]]
    deleted: Deleted
    eval_id: str = Field(description="Id that the eval had")


class EvalRunError(BaseModel):
    """Why a run, or an answer, failed."""

    code: str = Field(description="A word for programs, such as model_not_found")
    message: str = Field(description="What went wrong, for people")


class ResultCounts(BaseModel):
    """Of the items that are done."""

    total: int = Field(description="Items that are done so far")
    passed: int = Field(description="Items that all criteria let pass")
    failed: int = Field(description="Items that some criterion did not let pass")
    errored: int = Field(description="Items without an answer, or without a grade of some criterion")


class RunProgress(BaseModel):
    """How far a run is."""

    items: int = Field(description="Items that are done")
    total_items: int = Field(description="Items that the run has")


class CriterionResult(BaseModel):
    """What one criterion made of the items."""

    testing_criteria: str = Field(description="What the criterion is called in the eval")
    passed: int = Field(description="Items that it let pass")
    failed: int = Field(description="Items that it did not let pass")
    errored: int = Field(description="Items that it could not grade, or that had no answer")
    mean_score: float | None = Field(
        description="Mean of its scores, on its own scale, over the items that it graded; null: none yet"
    )


class ModelUsage(BaseModel):
    """What was asked of a model: the one that is evaluated, and those that judge."""

    model_name: str = Field(description="The model, by the name that it was asked by")
    invocation_count: int = Field(description="How many answers it gave")
    prompt_tokens: int = Field(description="Tokens that it read")
    completion_tokens: int = Field(description="Tokens that it wrote")
    total_tokens: int = Field(description="Both together")
    cached_tokens: int = Field(description="Of those read, how many an endpoint had at hand already")


class EvalRunObject(BaseModel):
    """One model on the items of one source."""

    id: str = Field(description="Id of the run, `evalrun_…`")
    object: Kind[Literal["eval.run"]]
    eval_id: str = Field(description="The eval that it is a run of")
    created_at: CreatedAt
    started_at: int | None = Field(description="When a worker took it first, Unix time; null until then")
    finished_at: int | None = Field(description="When it ended, Unix time in seconds; null until then")
    status: RunStatus = Field(
        description="queued until a worker is free; pausing and paused are ours, all others OpenAI's"
    )
    name: str = Field(description="What you call it; default the model's id")
    model: str = Field(description="The model that is evaluated; empty where the answers were given")
    mode: str | None = Field(
        description="The mode that it answers in; null where no model of this service is asked"
    )
    checkpoint: str | None = Field(
        description="Of a fine-tuned model, the checkpoint that all items are asked; null for others"
    )
    data_source: DataSource = Field(
        description="As it was given; in lists without the rows that stood in the request"
    )
    seed: int = Field(description="What the items' own seeds are derived from")
    report_url: str = Field(description="The run's page of this service")
    result_counts: ResultCounts = Field(description="What became of the items so far")
    progress: RunProgress = Field(description="How far it is")
    per_testing_criteria_results: list[CriterionResult] = Field(description="By criterion, in their order")
    per_model_usage: list[ModelUsage] = Field(description="Tokens of the model, and of judges, so far")
    error: EvalRunError | None = Field(description="Why it failed; null otherwise")
    metadata: Metadata


class EvalRunDeleted(BaseModel):
    """The answer to a run's deletion."""

    object: Kind[Literal["eval.run.deleted"]]
    deleted: Deleted
    run_id: str = Field(description="Id that the run had")


class ItemResult(BaseModel):
    """What one criterion made of one answer."""

    name: str = Field(description="What the criterion is called in the eval")
    type: str = Field(description="Which kind of grader it is, such as string_check")
    passed: bool = Field(description="Whether the score reaches its threshold; false beside an error")
    score: float = Field(description="On the grader's own scale; 0 beside an error, which is none")
    reward: float | None = Field(description="The score from 0 to 1; null beside an error")
    error: str | None = Field(description="Why there is no score; null where there is one")


class SampleMessage(BaseModel):
    """A message that was read or written."""

    role: str = Field(description="Who speaks")
    content: str | None = Field(description="What is said; null beside calls of tools alone")
    tool_calls: list[dict[str, object]] | None = Field(
        default=None, description="Calls of tools in the answer; left out where there are none"
    )


class SampleUsage(BaseModel):
    """Tokens of one answer."""

    prompt_tokens: int = Field(description="Tokens that the model read")
    completion_tokens: int = Field(description="Tokens that it wrote")
    total_tokens: int = Field(description="Both together")
    cached_tokens: int = Field(description="Of those read, how many an endpoint had at hand already")


class EvalSample(BaseModel):
    """The answer, and how it was drawn; what an answer that was given does not say is null."""

    model: str = Field(description="The model that answered; empty where the answer was given")
    mode: str | None = Field(description="The mode that it answered in; null where it has none")
    input: list[SampleMessage] = Field(description="What it was asked; empty where the answer was given")
    output: list[SampleMessage] = Field(description="What it answered; empty beside an error")
    reasoning: str | None = Field(description="Thoughts before the answer; null where there are none")
    finish_reason: str | None = Field(description="stop, length or tool_calls; null without an answer")
    usage: SampleUsage = Field(description="Tokens read and written")
    seed: int | None = Field(description="This item's own seed")
    temperature: float | None = Field(description="The temperature that it was drawn at")
    top_p: float | None = Field(description="The share of the likeliest tokens that it was drawn from")
    max_completion_tokens: int | None = Field(
        description="Most tokens that it could have; null: what the context had room for"
    )
    error: EvalRunError | None = Field(description="Why there is no answer; null where there is one")


class OutputItemObject(BaseModel):
    """What a run made of one item."""

    id: str = Field(description="Id of the output item, `outputitem_…`")
    object: Kind[Literal["eval.run.output_item"]]
    created_at: CreatedAt
    eval_id: str = Field(description="The eval that its run is of")
    run_id: str = Field(description="The run that it is of")
    status: ItemStatus = Field(description="pass: all criteria let it; fail: one did not; error: not known")
    datasource_item_id: int = Field(description="Place of the item in its source, from 0")
    datasource_item: dict[str, Any] = Field(description="The item that templates read")
    results: list[ItemResult] = Field(description="By criterion; empty where there is no answer to grade")
    sample: EvalSample | None = Field(description="The answer; null where criteria grade the item alone")
