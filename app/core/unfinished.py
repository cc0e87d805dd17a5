"""The condition that a job has not ended, in the form that the indexes of such jobs have."""

from sqlalchemy import ColumnElement

from app.core.job_status import TERMINAL
from app.core.tables import Job

_TERMINAL = [status.value for status in TERMINAL]


def unfinished(job: type[Job] = Job) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Of ``job``, which may be an alias."""
    return job.finished_at.is_(None), job.status.not_in(_TERMINAL)
