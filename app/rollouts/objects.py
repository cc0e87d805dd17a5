"""Rollouts as the API's description has them; ``app.rollouts.service`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind
from trainer.spec.modes import Mode


class RolloutObject(BaseModel):
    """A sampled response."""

    id: str = Field(description="Id of the response, `rollout-…`")
    object: Kind[Literal["fine_tuning.job.rollout"]]
    fine_tuning_job_id: str = Field(description="The job that sampled it")
    step: int = Field(description="The step it was sampled for, from 1")
    group: int = Field(description="Position of its prompt within the step, from 0")
    index: int = Field(description="Position among the responses to its prompt, from 0")
    item: int = Field(description="Position of its prompt in the training data, from 0")
    mode: Mode = Field(description="The mode it was sampled in")
    prompt: str = Field(description="What the model read, including the chat template and the mode's prompt")
    response: str = Field(description="What it answered")
    reward: float | None = Field(description="From 0 to 1; null if the grader failed on it")
    tokens: int = Field(description="Length of the response in tokens")
    truncated: bool = Field(description="Whether it was cut off at rollout.max_response_tokens")
    entropy: float | None = Field(description="Mean over its tokens, in nats")
    surprisal: float | None = Field(description="Mean negative log-probability of its tokens, in nats")


class TokenDetails(BaseModel):
    """A token; log-probability and entropy in nats."""

    text: str = Field(description="The characters it stands for")
    logprob: float = Field(description="Natural logarithm of the probability it was sampled with")
    entropy: float | None = Field(
        description="Of the distribution it was sampled from, in nats; null if not measured"
    )


class RolloutDetails(RolloutObject):
    """A sampled response, token by token."""

    scores: dict[str, float] = Field(
        description="The grader's scores by name, before any formula or range is applied"
    )
    parse_error: str | None = Field(description="Why it does not match the job's response_format")
    dropped: bool = Field(description="Whether its group was replaced because all its rewards were the same")
    token_details: list[TokenDetails] = Field(description="The response, token by token")
