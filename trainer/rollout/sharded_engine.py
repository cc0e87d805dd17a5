"""Sampling split over ranks: each samples a part of the requests with its own engine, and all learn all."""

from collections.abc import Callable, Sequence
from itertools import groupby

from trainer.distributed.ranks import Ranks
from trainer.graders.response_format import ResponseFormat
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest


class ShardedEngine(RolloutEngine):
    """A rollout engine made of every rank's own; ``generate`` is collective, and so not beside anything else.

    Requests with the same prompt that follow each other stay on one rank, which computes the prompt once.
    """

    def __init__(self, engine: RolloutEngine, ranks: Ranks):
        self._engine, self._ranks = engine, ranks

    @property
    def process_ids(self) -> Sequence[int]:
        """Of this rank's engine."""
        return self._engine.process_ids

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
        prompts = [list(of_prompt) for _, of_prompt in groupby(requests, lambda r: r.prompt_ids)]
        own = [request for of_prompt in self._ranks.share(prompts) for request in of_prompt]
        drawn: list[Sample] = []
        with self._engine.sampling():
            if own:
                drawn = self._engine.generate(
                    own,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    top_k=top_k,
                    form=form,
                    on_progress=on_progress,
                )
        return [sample for of_rank in self._ranks.gather(drawn) for sample in of_rank]

    def sync(self) -> None:
        self._engine.sync()

    def rest(self) -> None:
        self._engine.rest()

    def wake(self) -> None:
        self._engine.wake()

    def notes(self) -> Sequence[str]:
        """Of every rank's; collective."""
        return [note for of_rank in self._ranks.gather(self._engine.notes()) for note in of_rank]

    def close(self) -> None:
        self._engine.close()
