"""Engines that the first rank has alone: it samples for all ranks, and all learn what was sampled."""

from collections.abc import Callable, Sequence

from trainer.distributed.ranks import Ranks
from trainer.graders.response_format import ResponseFormat
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.rollout.weight_transfer import Sender


class FirstRanksEngine(RolloutEngine):
    """A rollout engine of several ranks; ``generate`` and ``sync`` are collective.

    Args:
        engine: the first rank's; None on the others,
        sender: which take part in sending the weights by it; None on the first.
    """

    def __init__(self, engine: RolloutEngine | None, sender: Sender | None, ranks: Ranks):
        self._engine, self._sender, self._ranks = engine, sender, ranks
        self._awake = True

    @property
    def process_ids(self) -> Sequence[int]:
        """None on the other ranks."""
        return () if self._engine is None else self._engine.process_ids

    @property
    def has_own_weights(self) -> bool:
        return True

    @property
    def own(self) -> RolloutEngine:
        return self if self._engine is None else self._engine

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
        def sample() -> list[Sample]:
            assert self._engine is not None
            return self._engine.generate(
                requests,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                form=form,
                on_progress=on_progress,
            )

        return self._ranks.from_first(sample)

    def sync(self) -> None:
        if self._engine is not None:
            self._engine.sync()
        elif self._sender is not None:
            self._sender.send()
        self._awake = True

    def rest(self) -> None:
        if self._engine is not None:
            self._engine.rest()
        self._awake = False

    def wake(self) -> None:
        # One that does not sleep has the weights still: the first rank knows.
        if not self._awake and self._ranks.from_first(
            lambda: self._engine is not None and self._engine.resting
        ):
            self.sync()
        self._awake = True

    def run_ahead(self) -> None:
        if self._engine is not None:
            self._engine.run_ahead()

    def notes(self) -> Sequence[str]:
        return () if self._engine is None else self._engine.notes()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
