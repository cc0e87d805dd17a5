"""Evals, runs and items as the API's description has them; ``app.evals.views`` makes them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.strict_json import JsonObject
from app.evals.data_sources import DataSource
from app.evals.schemas import ItemStatus, RunStatus
from trainer.graders.spec import Grader

Metadata = Annotated[dict[str, str] | None, Field(description="The pairs given with it; null if none")]


class EvalDataSourceConfig(BaseModel):
    """The schema of a row."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["custom"] = Field(description="Always custom: each run is given its rows")
    schema_: dict[str, object] = Field(
        alias="schema", description="JSON schema of a whole row: item as given, and sample"
    )


class EvalObject(BaseModel):
    """What all of its runs have in common."""

    id: str = Field(description="Id by which runs refer to it, `eval_…`")
    object: Kind[Literal["eval"]]
    created_at: CreatedAt
    updated_at: int = Field(description="When its name or metadata last changed, Unix time in seconds")
    name: str = Field(description="Your name for it")
    data_source_config: EvalDataSourceConfig = Field(description="The schema of its runs' rows")
    testing_criteria: list[Grader] = Field(
        description="The graders as given; if several share a name, the later ones have a number"
    )
    metadata: Metadata


class EvalDeleted(BaseModel):
    """The answer to an eval's deletion."""

    object: Kind[Literal["eval.deleted"]]
    deleted: Deleted
    eval_id: str = Field(description="Id of the eval that was deleted")


class EvalRunError(BaseModel):
    """Why a run, or an answer, failed."""

    code: str = Field(description="Machine-readable code, such as model_not_found")
    message: str = Field(description="What went wrong, in words")


class ResultCounts(BaseModel):
    """Counts of finished items."""

    total: int = Field(description="Items done so far")
    passed: int = Field(description="Items that pass all criteria")
    failed: int = Field(description="Items that fail some criterion")
    errored: int = Field(description="Items without an answer, or without a grade from some criterion")


class RunProgress(BaseModel):
    """How far a run is."""

    items: int = Field(description="Items that are done")
    total_items: int = Field(description="Number of items in the run")


class CriterionResult(BaseModel):
    """Results of one criterion over the items."""

    testing_criteria: str = Field(description="Name of the criterion in the eval")
    passed: int = Field(description="Items that passed it")
    failed: int = Field(description="Items that failed it")
    errored: int = Field(description="Items it could not grade, or that had no answer")
    mean_score: float | None = Field(
        description="Mean score over the items it graded, on its own scale; null if there are none yet"
    )


class ModelUsage(BaseModel):
    """Usage of a model: the one being evaluated, or a judge."""

    model_name: str = Field(description="The model, by the name used to query it")
    invocation_count: int = Field(description="Number of its answers")
    prompt_tokens: int = Field(description="Tokens that it read")
    completion_tokens: int = Field(description="Tokens that it wrote")
    total_tokens: int = Field(description="Both together")
    cached_tokens: int = Field(description="Of those read, the number that an endpoint had cached")


class EvalRunObject(BaseModel):
    """One model on the items of one source."""

    id: str = Field(description="Id of the run, `evalrun_…`")
    object: Kind[Literal["eval.run"]]
    eval_id: str = Field(description="The eval it belongs to")
    created_at: CreatedAt
    started_at: int | None = Field(
        description="When a worker first took it, Unix time in seconds; null until then"
    )
    finished_at: int | None = Field(description="When it ended, Unix time in seconds; null until then")
    status: RunStatus = Field(
        description="queued until a worker is free; pausing and paused are ours, the others OpenAI's"
    )
    name: str = Field(description="Your name for it; default: the model's id")
    model: str = Field(description="The model being evaluated; empty if answers were given")
    mode: str | None = Field(
        description="The mode it answers in; null unless it is one of this service's models"
    )
    checkpoint: str | None = Field(
        description="For a fine-tuned model, the checkpoint used for all items; null for others"
    )
    data_source: DataSource = Field(description="As given; in lists, without rows given in the request")
    seed: int = Field(description="Seed from which each item's seed is derived")
    report_url: str = Field(description="Address of the run's page in the dashboard")
    result_counts: ResultCounts = Field(description="Results of the items so far")
    progress: RunProgress = Field(description="How far it is")
    per_testing_criteria_results: list[CriterionResult] = Field(
        description="Results by criterion, in the eval's order"
    )
    per_model_usage: list[ModelUsage] = Field(description="Tokens of the model and of judges so far")
    error: EvalRunError | None = Field(description="Why it failed; null otherwise")
    metadata: Metadata


class EvalRunDeleted(BaseModel):
    """The answer to a run's deletion."""

    object: Kind[Literal["eval.run.deleted"]]
    deleted: Deleted
    run_id: str = Field(description="Id of the run that was deleted")


class ItemResult(BaseModel):
    """The result of one criterion for one answer."""

    name: str = Field(description="Name of the criterion in the eval")
    type: str = Field(description="Type of the grader, such as string_check")
    passed: bool = Field(description="Whether the score reaches its threshold; false on an error")
    score: float = Field(description="On the grader's own scale; 0 on an error, which is not a score")
    reward: float | None = Field(description="The score scaled to 0 to 1; null on an error")
    error: str | None = Field(description="Why there is no score; null if there is one")


class SampleMessage(BaseModel):
    """A message read or written."""

    role: str = Field(description="Who speaks")
    content: str | None = Field(description="The text; null if there are only tool calls")
    tool_calls: list[dict[str, object]] | None = Field(
        default=None, description="Tool calls in the answer; left out if there are none"
    )


class SampleUsage(BaseModel):
    """Tokens of one answer."""

    prompt_tokens: int = Field(description="Tokens the model read")
    completion_tokens: int = Field(description="Tokens that it wrote")
    total_tokens: int = Field(description="Both together")
    cached_tokens: int = Field(description="Of those read, the number that an endpoint had cached")


class EvalSample(BaseModel):
    """The answer, and how it was sampled; fields that a given answer lacks are null."""

    model: str = Field(description="The model that answered; empty if the answer was given")
    mode: str | None = Field(description="The mode it answered in; null if it has none")
    input: list[SampleMessage] = Field(description="The prompt; empty if the answer was given")
    output: list[SampleMessage] = Field(description="The answer; empty on an error")
    reasoning: str | None = Field(description="Thinking before the answer; null if there is none")
    finish_reason: str | None = Field(description="stop, length or tool_calls; null without an answer")
    usage: SampleUsage = Field(description="Tokens read and written")
    seed: int | None = Field(description="This item's own seed")
    temperature: float | None = Field(description="The temperature it was sampled at")
    top_p: float | None = Field(description="The top-p it was sampled with")
    max_completion_tokens: int | None = Field(
        description="Maximum tokens it could have; null: as many as fit the context"
    )
    error: EvalRunError | None = Field(description="Why there is no answer; null if there is one")


class OutputItemObject(BaseModel):
    """A run's result for one item."""

    id: str = Field(description="Id of the output item, `outputitem_…`")
    object: Kind[Literal["eval.run.output_item"]]
    created_at: CreatedAt
    eval_id: str = Field(description="The eval its run belongs to")
    run_id: str = Field(description="The run it belongs to")
    status: ItemStatus = Field(
        description="pass: it passed all criteria; fail: it failed one; error: no answer, or a criterion "
        "could not grade it"
    )
    datasource_item_id: int = Field(description="Position of the item in its source, from 0")
    datasource_item: JsonObject = Field(description="The item, as templates read it")
    results: list[ItemResult] = Field(
        description="Results by criterion; empty if there was no answer to grade"
    )
    sample: EvalSample | None = Field(description="The answer; null if criteria grade only the item")
