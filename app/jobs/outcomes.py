"""Rows of jobs' last evaluations, item by item: written by the worker, compared by experiments."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.tables import JobOutcomes
from app.core.upsert import insert_for
from trainer.spec.events import EvaluationOutcomes
from trainer.statistics.outcomes import ModeOutcomes, Outcomes


def upsert_outcomes(session: Session, job_id: str, event: EvaluationOutcomes) -> None:
    """Record a job's last evaluation; a repetition overwrites it."""
    modes = {mode: one.model_dump() for mode, one in event.modes.items()}
    statement = insert_for(session, JobOutcomes).values(job_id=job_id, step=event.step, modes=modes)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id"],
            set_={"step": statement.excluded["step"], "modes": statement.excluded["modes"]},
        )
    )


def outcomes_of(session: Session, job_ids: Sequence[str]) -> dict[str, Outcomes]:
    """The last evaluation of each of the jobs that has one."""
    rows = session.scalars(select(JobOutcomes).where(JobOutcomes.job_id.in_(job_ids)))
    return {
        row.job_id: {
            mode: ModeOutcomes.model_validate(row.modes[mode]) for mode in ("N", "H") if mode in row.modes
        }
        for row in rows
    }
