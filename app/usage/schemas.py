"""Usage on the wire: buckets of a day, as the hosted service has them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind


class Amount(BaseModel):
    """The price of something."""

    value: float = Field(description="Amount, by the price list of the day")
    currency: str = Field(description="Three lower-case letters, as in the hosted service")


class UsageResult(BaseModel):
    """A day's usage, in total or for one of the groups."""

    object: Kind[Literal["usage.result"]]
    project_id: str | None = Field(description="Id of the project; null unless grouped by it")
    job_id: str | None = Field(
        description="Id of the job; null unless grouped by it, and for usage not by a job"
    )
    model: str | None = Field(description="The model, the job's base or the one queried; null likewise")
    mode: str | None = Field(description="The mode queried; null likewise")
    seconds: float = Field(description="Total duration of attempts at jobs")
    gpu_seconds: float = Field(description="That duration times each attempt's number of GPUs")
    trained_tokens: int = Field(description="Tokens trained on, including repeated steps")
    sampled_tokens: int = Field(description="Tokens sampled in training")
    gradings: int = Field(description="Responses graded, for jobs and for requests")
    requests: int = Field(description="Answers from models; each choice of a request counts")
    input_tokens: int = Field(description="Prompt tokens of requests to models")
    output_tokens: int = Field(description="Answer tokens of models")
    storage_bytes: int = Field(
        description="Peak size of files and runs; grouped by job, of its run, or of everything not by a job"
    )
    amount: Amount | None = Field(description="What it costs; null: the operator has set no prices")


class UsageBucket(BaseModel):
    """A day."""

    object: Kind[Literal["bucket"]]
    start_time: int = Field(description="Start of the day (UTC), Unix time in seconds")
    end_time: int = Field(description="Start of the next day, Unix time in seconds")
    results: list[UsageResult] = Field(description="Usage of the day; empty if none")


class UsagePage(BaseModel):
    """Some days, oldest first."""

    object: Kind[Literal["page"]]
    data: list[UsageBucket] = Field(description="The days on this page")
    has_more: bool = Field(description="Whether more days follow; get them with page = next_page")
    next_page: str | None = Field(description="Value for page; null if no more days follow")
