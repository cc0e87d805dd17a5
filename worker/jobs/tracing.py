"""A job's trace as its worker writes it: the wait before an attempt, the attempt, its steps and their phases.

A trainer writes no spans and knows no endpoint: they are made of its events, once these have become rows. Of
phases it tells how long they took together, not when: their spans follow each other in the order in which a
step goes through them. Names are those of the proposed conventions for reinforcement learning (``rl.*``).
"""

import time
from collections.abc import Mapping

from app.core import tracing
from app.core.strict_json import JsonObject
from trainer.spec.events import StepMetrics
from worker.lease import Claim

#: Phases of a step in their order, and the span that they are told in.
_SPANS: Mapping[str, tuple[str, ...]] = {
    "rl.sample": ("generate",),
    "rl.reward": ("grade",),
    "rl.train": ("score", "forward_backward", "optimizer", "divergence"),
    "rl.sync": ("sync",),
    "rl.evaluate": ("evaluate", "diagnostics"),
    "rl.checkpoint": ("checkpoint",),
}


class AttemptTrace:
    """The spans of one attempt; nothing where there is no tracing, or the job was made without."""

    def __init__(self, claim: Claim):
        self._claim = claim
        self._span: tracing.Span | None = None

    def begin(self, parent: str | None, since: float, model: str, run_spec: JsonObject) -> None:
        """The attempt begins; the job was queued ``since`` then."""
        if parent is None:
            return
        now = time.time()
        job = {"rl.run.id": self._claim.id, "policysplit.attempt": self._claim.attempt}
        queue = tracing.start("queue", "consumer", parent=parent, at=since, attributes=job)
        queue.end(now)
        algorithm: dict[str, str] = run_spec.get("algorithm") or {}
        about: tracing.Attributes = {
            **job,
            "rl.algorithm": algorithm.get("type"),
            "rl.model.name": model,
            "policysplit.worker": self._claim.owner,
        }
        self._span = tracing.start("attempt", parent=parent, at=now, attributes=about)

    def step(self, event: StepMetrics) -> None:
        """A step that has become rows."""
        if self._span is None:
            return
        values = event.values
        seconds = values.get("train/step_seconds")
        if seconds is None:
            return
        at = event.time - seconds
        loop = tracing.start(
            "rl.loop",
            parent=self._span.traceparent,
            at=at,
            attributes={
                "rl.run.id": self._claim.id,
                "rl.loop.step": event.step,
                "rl.reward.mean.normal": values.get("train/N/reward"),
                "rl.reward.mean.high_entropy": values.get("train/H/reward"),
                "rl.sample.tokens": values.get("train/tokens_generated"),
                "rl.train.tokens": values.get("train/tokens_trained"),
            },
        )
        for name, phases in _SPANS.items():
            took = {phase: values[f"time/{phase}"] for phase in phases if values.get(f"time/{phase}")}
            if not took:
                continue
            each = {f"policysplit.seconds.{phase}": round(one, 6) for phase, one in took.items()}
            part = tracing.start(name, parent=loop.traceparent, at=at, attributes=each)
            at += sum(took.values())
            part.end(at)
        loop.end(event.time)

    def end(self, outcome: str, cause: str) -> None:
        """The attempt is over."""
        if self._span is None:
            return
        self._span.set({"policysplit.outcome": outcome, "policysplit.cause": cause})
        if outcome in ("failed", "crashed", "lost"):
            self._span.failed(cause)
        self._span.end()
        self._span = None
