"""A run of an eval that this worker holds: what it is made of, and every write of it.

Each write asserts the lease, and the items of a write are counted in its transaction: whoever comes back from
a freeze writes nothing, and no item is counted twice.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import aliased

from app.accounting.counting import Amounts, Place, add, day_of
from app.core.db import read_session, write_session
from app.core.ids import new_output_item_id
from app.core.settings import get_settings
from app.core.strict_json import JsonObject
from app.core.tables import Eval, EvalOutputItem, EvalRun, File
from app.evals import repository
from app.evals.data_sources import DataSource, FileContent, JsonlRun
from app.evals.rows import EvalRow, rows_given, rows_of_file
from app.evals.schemas import CRITERIA, RunStatus
from app.evals.status import HELD, change_status
from trainer.graders.spec import Grader
from worker.evals.answers import Answer
from worker.evals.errors import RunFailed, Stopped
from worker.evals.grading import Verdict, add_counts
from worker.lease import Claim, Lease

RUNS = Lease(EvalRun, HELD)
_SOURCE: TypeAdapter[DataSource] = TypeAdapter(DataSource)
_COUNTED = {"pass": "passed", "fail": "failed", "error": "errored"}

Told = JsonObject


def claim(owner: str) -> Claim | None:
    """Take the next run that waits, or whose worker was lost: of the project with the fewest under way."""
    waits = (
        EvalRun.finished_at.is_(None),
        or_(EvalRun.status == "queued", and_(*RUNS.lost())),
    )
    with read_session() as session:  # mostly there is none, and a reader takes no lock
        if session.scalars(select(EvalRun.id).where(*waits).limit(1)).first() is None:
            return None
    other = aliased(EvalRun)
    under_way = select(func.count()).where(
        other.project_id == EvalRun.project_id, other.finished_at.is_(None), other.status.in_(HELD)
    )
    waiting = select(EvalRun.id).where(*waits).order_by(under_way.scalar_subquery(), EvalRun.created_at)
    since = func.coalesce(EvalRun.started_at, time.time())
    with write_session() as session:
        claiming = RUNS.claiming(waiting, status="in_progress", started_at=since)
        found = RUNS.claim(session.connection(), claiming, owner)
    return None if found is None else found[0]


@dataclass
class Loaded:
    """What a run is made of."""

    project: str
    model: Told
    """Model and mode to ask: the checkpoint that it was at the run's creation."""
    source: DataSource
    seed: int
    total: int
    criteria: list[Grader]
    counted: list[Told]
    usage: dict[str, Told]
    done: set[int]
    inline: list[Told] | None
    file: File | None

    def rows(self) -> Iterator[EvalRow]:
        """Those that are not done. Raises StoreError."""
        assert self.inline is not None or self.file is not None
        rows = rows_of_file(self.file) if self.file is not None else rows_given(self.inline or ())
        return (row for row in rows if row.position not in self.done)


class HeldRun:
    """The claimed run. Any of its methods raises LeaseLost when it is not ours."""

    def __init__(self, claim: Claim):
        self.claim = claim

    def load(self) -> Loaded:
        """What there is to do. Raises RunFailed where the file is gone."""
        with read_session() as session:
            run = session.get_one(EvalRun, self.claim.id)
            of = session.get_one(Eval, run.eval_id)
            inline, file = run.inline_rows, None
            if run.file_id is not None and (file := session.get(File, run.file_id)) is None:
                raise RunFailed("file_not_found", f"The file {run.file_id} is gone.")
            return Loaded(
                project=run.project_id,
                model={} if run.weights is None else {"model": run.weights, "mode": run.mode},
                source=_source(run.data_source, inline),
                seed=run.seed,
                total=run.total,
                criteria=CRITERIA.validate_python(of.testing_criteria),
                counted=[dict(one) for one in run.criteria],
                usage=dict(run.usage),
                done=repository.positions(session, run.id),
                inline=inline,
                file=file,
            )

    def renew(self) -> None:
        with write_session() as session:
            RUNS.renew(session, self.claim)

    def check(self) -> None:
        """Raise Stopped where its user wants it to stop."""
        columns = EvalRun.cancel_requested, EvalRun.pause_requested
        with read_session() as session:
            found = session.execute(select(*columns).where(EvalRun.id == self.claim.id)).one_or_none()
        if found is not None and (found.cancel_requested or found.pause_requested):
            raise Stopped("canceled" if found.cancel_requested else "paused")

    def add(self, loaded: Loaded, done: Sequence[tuple[EvalRow, Answer, Verdict]]) -> None:
        """Items that are done, and all that is counted by them."""
        counted = [dict(one) for one in loaded.counted]
        usage = dict(loaded.usage)
        for _, answer, verdict in done:
            _count(counted, verdict)
            for told in (answer.usage, verdict.usage):
                for model, counts in told.items():
                    add_counts(usage, model, counts)
        now = time.time()
        new = {
            column: getattr(EvalRun, column) + sum(verdict.status == status for _, _, verdict in done)
            for status, column in _COUNTED.items()
        }
        with write_session() as session:
            RUNS.write(session, self.claim, criteria=counted, usage=usage, **new)
            gradings = sum(len(verdict.results) for _, _, verdict in done)
            add(session, Place(loaded.project, day_of(now)), Amounts(gradings=gradings))
            for row, answer, verdict in done:
                session.add(
                    EvalOutputItem(
                        id=new_output_item_id(),
                        run_id=self.claim.id,
                        position=row.position,
                        created_at=now,
                        status=verdict.status,
                        item=row.item,
                        item_key=row.key,
                        rewards=verdict.rewards,
                        results=verdict.results,
                        sample=answer.shown,
                    )
                )
        loaded.counted, loaded.usage = counted, usage

    def give_back(self, status: RunStatus) -> None:
        """Not ended, and no fault of its: it may be taken as often as before."""
        with write_session() as session:
            run = RUNS.hold(session, self.claim)
            run.attempt -= 1
            change_status(session, run, status)

    def end(self, status: RunStatus, error: dict[str, str] | None = None) -> None:
        """The end of it."""
        with write_session() as session:
            change_status(session, RUNS.hold(session, self.claim), status, error=error)

    def complete(self) -> None:
        """All items are done. A run of which nothing could be told has failed."""
        with write_session() as session:
            run = RUNS.hold(session, self.claim)
            if run.errored < run.total:
                change_status(session, run, "completed")
                return
            (first,) = repository.items(session, run.id, after=None, limit=1, order="asc", status=None)
            message = f"No item could be evaluated. The first failed with: {_why(first)}"
            change_status(session, run, "failed", error={"code": "no_results", "message": message})

    @property
    def is_last_attempt_over(self) -> bool:
        return self.claim.attempt > get_settings().max_attempts


def _source(stored: Told, inline: list[Told] | None) -> DataSource:
    if inline is None:
        return _SOURCE.validate_python(stored)
    source = stored["source"] | {"content": [{"item": {}}]}
    found = _SOURCE.validate_python(stored | {"source": source})
    assert isinstance(found, JsonlRun) or isinstance(found.source, FileContent)
    return found


def _count(counted: list[Told], verdict: Verdict) -> None:
    for number, one in enumerate(counted):
        result = verdict.results[number] if verdict.results else None
        if result is None or result["error"] is not None:
            one["errored"] += 1
        else:
            one["passed" if result["passed"] else "failed"] += 1
            one["score"] += result["score"]


def _why(item: EvalOutputItem) -> str:
    if item.sample is not None and item.sample["error"] is not None:
        return str(item.sample["error"]["message"])
    return next((str(one["error"]) for one in item.results if one["error"] is not None), "not known")
