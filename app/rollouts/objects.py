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
    step: int = Field(description="The step that it was sampled for, from 1")
    group: int = Field(description="Place of its prompt within the step, from 0")
    index: int = Field(description="Place of the response among those to its prompt, from 0")
    item: int = Field(description="Place of its prompt in the training data, from 0")
    mode: Mode = Field(description="The mode that it was sampled in")
    prompt: str = Field(description="What the model read, with chat template and the mode's prompt")
    response: str = Field(description="What it answered")
    reward: float | None = Field(description="From 0 to 1; null where the grader failed on it")
    tokens: int = Field(description="Length of the response in tokens")
    truncated: bool = Field(description="true: it reached rollout.max_response_tokens without ending")
    entropy: float | None = Field(description="Mean over its tokens, nats")
    surprisal: float | None = Field(description="Mean of its tokens' negative log-probabilities, nats")


class TokenDetails(BaseModel):
    """A token; log-probability and entropy in nats."""

    text: str = Field(description="The characters that it stands for")
    logprob: float = Field(description="Natural logarithm of the probability that it was sampled with")
    entropy: float | None = Field(
        description="Of the distribution that it was sampled from, in nats; null where that was not measured"
    )


class RolloutDetails(RolloutObject):
    """A sampled response, token by token."""

    scores: dict[str, float] = Field(
        description="Each of the grader's scores by name, before a formula or a range is applied"
    )
    parse_error: str | None = Field(description="Why it is not of the job's response_format")
    dropped: bool = Field(description="true: its group taught nothing and others took its place")
    token_details: list[TokenDetails] = Field(description="The response token by token")
