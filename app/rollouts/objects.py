"""Rollouts as the API's description has them; ``app.rollouts.service`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from trainer.spec.modes import Mode


class RolloutObject(BaseModel):
    """A sampled response."""

    id: str
    object: Literal["fine_tuning.job.rollout"]
    fine_tuning_job_id: str
    step: int
    group: int
    index: int
    item: int
    mode: Mode
    prompt: str
    response: str
    reward: float | None
    tokens: int
    truncated: bool
    entropy: float | None = Field(description="Mean over its tokens, nats")
    surprisal: float | None = Field(description="Mean of its tokens' negative log-probabilities, nats")


class TokenDetails(BaseModel):
    """A token; log-probability and entropy in nats."""

    text: str
    logprob: float
    entropy: float | None


class RolloutDetails(RolloutObject):
    """A sampled response, token by token."""

    scores: dict[str, float]
    parse_error: str | None = Field(description="Why it is not of the job's response_format")
    dropped: bool
    token_details: list[TokenDetails]
