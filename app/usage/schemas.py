"""Usage on the wire: buckets of a day, as the hosted service has them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind


class Amount(BaseModel):
    """What something costs."""

    value: float = Field(description="How much, by the price list of the day")
    currency: str = Field(description="Three letters, small, as the hosted service writes them")


class UsageResult(BaseModel):
    """What was used on a day: altogether, or by one of what the days are divided by."""

    object: Kind[Literal["usage.result"]]
    project_id: str | None = Field(description="Whose use; null unless divided by it")
    job_id: str | None = Field(description="Of which job; null unless divided by it, and for what is of none")
    model: str | None = Field(description="Of which model, the job's base or the one asked; null likewise")
    mode: str | None = Field(description="In which mode a model was asked; null likewise")
    seconds: float = Field(description="How long attempts at jobs took, together")
    gpu_seconds: float = Field(description="These seconds times the GPUs that each attempt had")
    trained_tokens: int = Field(description="Tokens that were trained on, steps done again included")
    sampled_tokens: int = Field(description="Tokens that were sampled in training")
    gradings: int = Field(description="Responses that were graded: of jobs, and of requests")
    requests: int = Field(description="Answers of models: each choice of a request is one")
    input_tokens: int = Field(description="Tokens that models were asked with")
    output_tokens: int = Field(description="Tokens that models answered")
    storage_bytes: int = Field(
        description="The most that files and runs took; by job, what its run took, and without one the whole"
    )
    amount: Amount | None = Field(description="What it costs; null: the operator has set no prices")


class UsageBucket(BaseModel):
    """A day."""

    object: Kind[Literal["bucket"]]
    start_time: int = Field(description="When the day begins (UTC), Unix time")
    end_time: int = Field(description="When the next day begins, Unix time")
    results: list[UsageResult] = Field(description="What was used; empty where nothing was")


class UsagePage(BaseModel):
    """Some days, the oldest first."""

    object: Kind[Literal["page"]]
    data: list[UsageBucket] = Field(description="The days of this page")
    has_more: bool = Field(description="true: further days follow; ask with page = next_page")
    next_page: str | None = Field(description="What to give as page; null: no further days")
