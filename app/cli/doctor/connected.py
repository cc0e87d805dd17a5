"""Checks of the workers that are connected: that there are some, that they live, and of which version."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.cli.doctor.finding import Finding, ok, warning
from app.cli.doctor.shared import database_is_there
from app.core.db import read_session
from app.core.live_workers import status_of, workers_warning
from app.core.tables import InferenceWorker, TrainingWorker

Workers = Sequence[TrainingWorker | InferenceWorker]


def workers() -> Iterator[Finding]:
    """That somebody takes jobs, and nobody has ended without a word."""
    if not database_is_there():
        return
    try:
        with read_session() as session:
            rows: Workers = [
                *session.scalars(select(TrainingWorker)),
                *session.scalars(select(InferenceWorker)),
            ]
            lacking = workers_warning(session)
    except SQLAlchemyError:
        return  # told of by the database's checks
    if lacking:
        found, _, do = lacking.partition(": ")
        yield warning("workers", found, do.rstrip("."))
    if lost := [row.id for row in rows if status_of(row) == "lost"]:
        yield warning(
            "workers",
            f"no longer heard from: {', '.join(lost)}",
            "check their hosts; other workers take over their jobs, and their entries disappear on their own",
        )
    live = [row for row in rows if status_of(row) != "lost"]
    if not lacking and not lost:
        training = sum(isinstance(row, TrainingWorker) for row in live)
        yield ok("workers", f"{training} for training, {len(live) - training} for inference")
    if live:
        yield _versions(live)


def _versions(live: Workers) -> Finding:
    own = version("policysplit")
    others = [f"{row.id} ({row.version or 'before 0.1.0'})" for row in live if row.version != own]
    if not others:
        return ok("versions", f"all workers run {own}, like this host")
    return warning(
        "versions",
        f"this host runs {own}; other versions: {', '.join(others)}",
        "finish the upgrade: consecutive releases work together (docs/guides/upgrading.md)",
    )
