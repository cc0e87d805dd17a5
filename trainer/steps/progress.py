"""What a run is doing, reported as it happens, and how long each phase of a step takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from trainer.spec.events import Event, MessageEvent, Phase


class StopAsked(BaseException):
    """The run was asked to stop in the middle of something, which is abandoned: it stops as it was before.

    Not an error of what is abandoned, so ``except Exception`` must not catch it.
    """


class StoppedWithin(StopAsked):
    """The same, if the weights are already those after the abandoned step: they are not saved."""


class Progress:
    """Reports the phases of a run, which shows that it is alive, and records their seconds."""

    def __init__(self, tell: Callable[[Event], None]):
        self.tell = tell
        """Takes any event."""
        self._phase, self._step = "", 0
        self._give_up: Callable[[], bool] = lambda: False
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}
        """Of each phase since the step began; phases of one name are added up."""

    def begin_step(self) -> None:
        """Count the seconds from here on as the next step's."""
        # A checkpoint is saved after its step's metrics are written: the next step reports its time.
        self.seconds = {"sync": 0.0, "checkpoint": self.seconds.get("checkpoint", 0.0)}
        self._started = time.perf_counter()

    def end_step(self, tokens_generated: float) -> dict[str, float]:
        """``train/step_seconds``, ``train/tokens_per_second`` and ``time/*`` of the step."""
        seconds = time.perf_counter() - self._started
        # The speed of training, which does not drop at steps that also evaluate or probe the model.
        other = self.seconds.get("evaluate", 0.0) + self.seconds.get("diagnostics", 0.0)
        values = {
            "train/step_seconds": seconds,
            "train/tokens_per_second": tokens_generated / (seconds - other),
        }
        values |= {f"time/{name}": of_phase for name, of_phase in self.seconds.items()}
        self.seconds["checkpoint"] = 0.0
        return values

    @contextmanager
    def phase(self, name: str, step: int) -> Iterator[None]:
        """Step ``step`` (from 0) is in phase ``name`` meanwhile."""
        self._phase, self._step = name, step
        self.beat()
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def giving_up(self, when: Callable[[], bool]) -> Iterator[None]:
        """Within the block a phase that is under way is left, by StopAsked, once ``when`` says so."""
        self._give_up = when
        try:
            yield
        finally:
            self._give_up = lambda: False

    def beat(self) -> None:
        """The phase goes on; StopAsked where it does not."""
        if self._give_up():
            raise StopAsked
        self.tell(Phase(step=self._step + 1, phase=self._phase))

    def say(
        self,
        message: str,
        level: Literal["info", "warn", "error"] = "info",
        data: dict[str, object] | None = None,
    ) -> None:
        """A message for whoever follows the run."""
        self.tell(MessageEvent(level=level, message=message, data=data or {}))
