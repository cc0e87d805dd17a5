"""How long a run would take, by the jobs of the project that have run like it.

    seconds = what is not a step + steps * pace

both as an earlier job had them, whose model, rollouts and adapters are the same. Of several, the median; the
interval goes from the fastest to the slowest and a quarter beyond, as that of a probe does
(``worker.estimates.probe``). Where only another algorithm has run so, it may take half or twice as long: one
trains a response once, another one twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.job_status import JobStatus
from app.core.tables import Job
from trainer.spec.run import RunSpec

#: The newest jobs that are looked at.
MOST = 100
ENDS = ("value", "low", "high")
_SAME, _OTHER = (0.75, 1.25), (0.5, 2.0)


@dataclass(frozen=True)
class RunTime:
    """Seconds of a run by their ``ENDS``, and the jobs that say so."""

    seconds: Mapping[str, float]
    jobs: Sequence[str]


@dataclass(frozen=True)
class _Ran:
    """A job that has run: its specification, seconds of a step, and of all that is not one."""

    id: str
    spec: Mapping[str, Any]
    step: float
    rest: float


class Pace:
    """What the newest succeeded jobs of a project took."""

    def __init__(self, session: Session, project_id: str):
        columns = (
            Job.id,
            Job.run_spec,
            Job.started_at,
            Job.finished_at,
            Job.step,
            Job.clock_step,
            Job.clock_at,
            Job.stepped_at,
        )
        query = (
            select(*columns)
            # In one attempt: of several, nobody knows what the lost ones took.
            .where(Job.project_id == project_id, Job.status == JobStatus.SUCCEEDED, Job.attempt <= 1)
            .order_by(Job.created_at.desc(), Job.id.desc())
            .limit(MOST)
        )
        self._ran = [ran for row in session.execute(query) if (ran := _ran(*row)) is not None]

    def of(self, spec: RunSpec) -> RunTime | None:
        """How long a run would take; None where no job was like it."""
        told = spec.model_dump(mode="json")
        alike = [one for one in self._ran if _size(one.spec) == _size(told)]
        same = [one for one in alike if _method(one.spec) == _method(told)]
        if not alike:
            return None
        below, above = _SAME if same else _OTHER
        seconds = [one.rest + spec.total_steps * one.step for one in same or alike]
        ends = (median(seconds), below * min(seconds), above * max(seconds))
        return RunTime(
            {name: round(end, 3) for name, end in zip(ENDS, ends, strict=True)},
            [one.id for one in same or alike],
        )


def _size(spec: Mapping[str, Any]) -> tuple[object, ...]:
    # One without a grader samples nothing, whatever its rollout says.
    return spec.get("model"), spec.get("rollout"), spec.get("lora"), spec.get("grader") is None


def _method(spec: Mapping[str, Any]) -> tuple[object, ...]:
    updates = spec.get("optimizer", {}).get("updates_per_batch")
    return spec.get("algorithm", {}).get("type"), updates


def _ran(
    job_id: str,
    spec: Mapping[str, Any],
    started: float | None,
    finished: float | None,
    steps: int,
    first: int | None,
    first_at: float | None,
    last_at: float | None,
) -> _Ran | None:
    if started is None or finished is None or steps < 1 or finished <= started:
        return None
    took = finished - started
    step = took / steps
    if first is not None and first_at is not None and last_at is not None and steps > first:
        step = min(step, (last_at - first_at) / (steps - first))
    return _Ran(job_id, spec, step, took - steps * step)
