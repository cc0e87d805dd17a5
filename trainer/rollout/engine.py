"""The interface of rollout engines: prompts in, sampled responses out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from trainer.graders.response_format import ResponseFormat


@dataclass(frozen=True)
class SampleRequest:
    """One response to sample. Requests with the same ``prompt_ids`` may share its computation."""

    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Sample:
    """A sampled response; ``logprobs`` in nats under the distribution that was sampled from."""

    response_ids: list[int]
    logprobs: list[float]
    truncated: bool


class RolloutEngine(Protocol):
    """Samples from the policy's current weights.

    An engine that computes with the policy's own modules needs ``generate`` alone.
    """

    @property
    def process_ids(self) -> Sequence[int]:
        """Of the processes that it has beside the caller's."""
        return ()

    @property
    def has_own_weights(self) -> bool:
        """Whether it samples with the weights of the last ``sync``, also while the policy's change."""
        return False

    @property
    def own(self) -> "RolloutEngine":
        """What the first rank may sample with by itself, beside what ranks do together."""
        return self

    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        form: ResponseFormat | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        """One sample a request, in order. A response's tokens depend on its own request alone, up to the
        rounding of batched arithmetic. ``on_progress`` is called now and then, for liveness.

        Temperature 0 takes the most likely token. ``top_k``, then ``top_p`` leave out improbable tokens; they
        are for evaluation alone: a policy gradient needs samples of the policy itself.

        With a ``form`` only tokens with which the response can still become of it are drawn, before all else;
        it restricts. Its end is the response's. Raises InvalidSpec where responses cannot be held to it.
        """
        ...

    def sampling(self) -> AbstractContextManager[None]:
        """What has to hold on all ranks while any of them generates; collective where it begins."""
        return nullcontext()

    def sync(self) -> None:
        """Take the policy's weights as they are now; to be called after each change of them."""

    def rest(self) -> None:
        """Nothing is generated before the next ``sync`` or ``wake``: the memory may go to the update."""

    @property
    def resting(self) -> bool:
        """Whether it is to be woken before it generates."""
        return False

    def wake(self) -> None:
        """Be ready to generate with the policy's weights, which are those of the last ``sync``."""

    def run_ahead(self) -> None:
        """The policy's weights change from now on to the next ``sync``, and it samples meanwhile."""

    def notes(self) -> Sequence[str]:
        """Sentences for who follows the run, since this was last asked."""
        return ()

    def close(self) -> None:
        """End what the engine started. It generates no more."""
