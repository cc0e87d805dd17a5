"""From a trainer's event file to rows, each line exactly once.

A batch of lines becomes one short transaction that (1) asserts and locks the worker's hold on the job,
(2) writes the rows, (3) stores the new offset. Whatever is killed wherever: either all of it happened or
none, and the next reader continues at the stored offset. Metrics, rollouts and checkpoints are also keyed by
step, so that steps repeated by a resumed run overwrite themselves.
"""

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import InterfaceError, OperationalError, StatementError
from sqlalchemy.orm import Session

from app.accounting.counting import uncounted
from app.checkpoints.repository import remove_checkpoint, upsert_checkpoint
from app.core.db import read_session, write_session
from app.core.job_log import Level, add_event
from app.core.job_status import JobStatus
from app.core.store.trees import Reference
from app.core.tables import Checkpoint, JobAttempt, JobEvent
from app.core.upsert import insert_for
from app.jobs.outcomes import upsert_outcomes
from app.jobs.rewards import record_rewards
from app.jobs.status import change_status
from app.rollouts.repository import kept, upsert_rollouts
from app.series.repository import upsert_steps
from trainer.spec.events import (
    CheckpointRemoved,
    CheckpointSaved,
    EvaluationOutcomes,
    Event,
    Failed,
    Finished,
    MessageEvent,
    Phase,
    Rollouts,
    Started,
    StepMetrics,
    Stopped,
)
from trainer.spec.manifest import MANIFEST_NAME, file_sha256
from worker import figures
from worker.jobs import clock, preflight_status
from worker.jobs.event_file import Batch, read_batch
from worker.jobs.holding import JOBS, hold, started_text
from worker.jobs.launcher import events_name
from worker.jobs.metrics_event import metrics_data, metrics_message
from worker.jobs.uploads import Uploads
from worker.lease import Claim, LeaseLost

_log = logging.getLogger(__name__)
End = Finished | Stopped | Failed


class Relay:
    """Relays one attempt's event file under a claim.

    ``source`` is the attempt that wrote the file: the claim's own, or an earlier one whose worker was lost
    before it had relayed everything.
    """

    def __init__(
        self,
        claim: Claim,
        run_dir: Path,
        uploads: Uploads,
        source: int | None = None,
        on_step: Callable[[StepMetrics], None] = figures.count_step,
    ):
        self._on_step = on_step
        self.end: End | None = None
        self.started = False
        """The trainer has reported its start: it is the only one in the run's folder."""
        self.used_up = False
        """A budget is used up, and a pause was requested."""
        self.renewed_at = time.monotonic()
        self._claim = claim
        self.waits = False
        """The next event is of a checkpoint that is being sent to the store."""
        self._run_dir, self._uploads = run_dir, uploads
        self._dropped = set[str]()
        self._source = claim.attempt if source is None else source
        self.path = run_dir / events_name(self._source)
        self._size_at_end: int = -1
        self._silent: int = 0
        # Whether the job may still be in validating_files.
        self._in_preflight = True
        # None: to be read from the database, at first and after a commit whose answer was lost.
        self._offset: int | None = None

    @property
    def relayed(self) -> int:
        """Bytes of the event file that have become rows, or need none, as far as this one knows."""
        return max(self._offset or 0, self._silent)

    def _stored_offset(self) -> int:
        with read_session() as session:
            offset = session.scalar(select(JobAttempt.relayed_bytes).where(*self._row()))
        if offset is None:
            raise LeaseLost(self._claim)
        return offset

    def step(self) -> bool:
        """Relay one batch; whether there may be more at once. Raises LeaseLost, writing nothing."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        if size == self._size_at_end:
            return False
        if self._offset is None:
            self._offset = self._stored_offset()
        batch = read_batch(self.path, self._offset, has_to_wait=self._has_to_wait)
        self.waits = batch.waits
        if batch.end == batch.start:
            if not batch.waits:
                self._size_at_end = size
            return False
        if batch.end >= size and self._tells_nothing(batch):
            self._silent, self._size_at_end = batch.end, size
            return False
        self._relay(batch)
        return True

    def _tells_nothing(self, batch: Batch) -> bool:
        """Whether no row would change but the offset: that is not worth a transaction. The lines are read
        again with those that follow."""
        phases = all(isinstance(event, Phase) for event in batch.events)
        begins = self._in_preflight and any(map(preflight_status.is_over, batch.events))
        return phases and not begins and not batch.faults and not batch.waits

    def _relay(self, batch: Batch) -> None:
        try:
            self._write(batch)
        except (OperationalError, InterfaceError):
            # The database cannot be reached: the events are fine.
            self._offset = None
            raise
        except (StatementError, ValueError, OverflowError) as error:
            self._relay_one_by_one(batch, error)

    def _relay_one_by_one(self, batch: Batch, error: Exception) -> None:
        """The database refuses a row: find the event and leave it out, rather than being stuck here for
        ever."""
        if len(batch.events) == 1:
            fault = f"bytes {batch.start} to {batch.end}: {batch.events[0].type}: {_first_line(error)}"
            self._write(replace(batch, events=[], faults=[*batch.faults, fault]))
            return
        offset = batch.start
        while offset < batch.end:
            single = read_batch(self.path, offset, max_events=1)
            self._relay(single)
            offset = single.end

    def _write(self, batch: Batch) -> None:
        problems = self._checkpoint_problems(batch.events)
        with write_session() as session:
            # From here on the row is closed to the heartbeat, however long: the lease is renewed last.
            time_told = clock.Clock(*JOBS.lock(session, self._claim, *clock.COLUMNS))
            removed = self._write_rows(session, batch, problems)
            self._write_faults(session, batch.faults + [text for text in problems.values() if text])
            moved = session.scalar(
                update(JobAttempt)
                .where(*self._row(), JobAttempt.relayed_bytes == batch.start)
                .values(relayed_bytes=batch.end, **uncounted(clock.steps_of(batch.events)))
                .returning(JobAttempt.attempt)
                .execution_options(synchronize_session=False)
            )
            if moved is None:
                raise LeaseLost(self._claim)
            renewed_at = time.monotonic()
            progress = _progress(batch.events, time_told)
            budget = JOBS.renew(session, self._claim, *clock.BUDGET, **progress)
            stepped = any(isinstance(event, StepMetrics) for event in batch.events)
            used_up = stepped and clock.pause_if_used_up(session, self._claim, budget, time_told)
        self.used_up = self.used_up or used_up
        self.renewed_at = renewed_at
        self._offset = batch.end
        for event in batch.events:
            if isinstance(event, StepMetrics):
                self._on_step(event)
        for place in removed:
            if (reference := Reference.parse(place)) is not None:
                self._uploads.remove(reference.prefix)
        self._in_preflight = self._in_preflight and not any(map(preflight_status.is_over, batch.events))
        for event in batch.events:
            if isinstance(event, End):
                self.end = event
            self.started = self.started or isinstance(event, Started)

    def _write_rows(self, session: Session, batch: Batch, problems: dict[int, str]) -> list[str]:
        """The places of checkpoints whose rows are gone."""
        removed: list[str] = []
        points: dict[int, dict[str, float]] = defaultdict(dict)
        job_id = self._claim.id
        in_preflight = self._in_preflight
        for event in batch.events:
            if in_preflight and preflight_status.is_over(event):
                in_preflight = False
                self._begin(session, event.time)
            match event:
                case Started():
                    _add(session, job_id, event.time, "info", _started_text(event), event)
                case MessageEvent():
                    add_event(
                        session,
                        job_id,
                        event.level,
                        "message",
                        event.message,
                        event.data or None,
                        now=event.time,
                    )
                case StepMetrics():
                    points[event.step] |= event.values
                    add_metrics_event(session, job_id, event)
                case EvaluationOutcomes():
                    upsert_outcomes(session, job_id, event)
                case Rollouts():
                    records = {(record.group, record.index): record for record in event.rollouts}
                    upsert_rollouts(session, job_id, event.step, kept(list(records.values())))
                case CheckpointSaved() if event.step not in problems:
                    self._add_checkpoint(session, event)
                case CheckpointRemoved():
                    if (place := remove_checkpoint(session, job_id, event.step)) is not None:
                        removed.append(place)
                case _:
                    pass
        if points:
            upsert_steps(session, job_id, points)
            record_rewards(session, job_id, points)
        return removed

    def _begin(self, session: Session, when: float) -> None:
        """The preflight check is over: the job runs, unless it did before or is being paused."""
        job = hold(session, self._claim)
        if job.status == JobStatus.VALIDATING_FILES:
            data = {"attempt": self._claim.attempt}
            text = started_text(self._claim.attempt)
            change_status(session, job, JobStatus.RUNNING, message=text, data=data, now=when)

    def _add_checkpoint(self, session: Session, event: CheckpointSaved) -> None:
        known = session.scalar(
            select(Checkpoint.id).where(Checkpoint.job_id == self._claim.id, Checkpoint.step == event.step)
        )
        place = self._uploads.place_of(self._run_dir / event.path, event.step, event.manifest_sha256)
        assert place is not None, "waiting for checkpoints that are being sent to the store"
        checkpoint = upsert_checkpoint(
            session,
            hold(session, self._claim),
            step=event.step,
            path=place,
            high_entropy_prompt=event.high_entropy_prompt,
            high_entropy_placement=event.high_entropy_placement,
            chat_template_kwargs=event.chat_template_kwargs,
            manifest_sha256=event.manifest_sha256,
            metrics=event.metrics,
            now=event.time,
        )
        if known is not None:
            return  # a resumed run names the checkpoints that it found
        add_event(
            session,
            self._claim.id,
            "info",
            "message",
            f"Checkpoint created at step {event.step} with checkpoint ID: {checkpoint.model}",
            {"step": event.step, "checkpoint_id": checkpoint.id},
            now=event.time,
        )

    def _write_faults(self, session: Session, faults: list[str]) -> None:
        if not faults:
            return
        _log.warning("%s: %s events could not be relayed: %s", self.path, len(faults), faults[0])
        add_event(
            session,
            self._claim.id,
            "warn",
            "message",
            f"{len(faults)} of the trainer's events could not be read and were skipped; first: {faults[0]}",
            {"count": len(faults), "file": self.path.name},
        )

    def _checkpoint_problems(self, events: list[Event]) -> dict[int, str]:
        """Steps whose announced checkpoint cannot be registered, and why ('' for one removed since)."""
        removed = {event.step for event in events if isinstance(event, CheckpointRemoved)}
        problems: dict[int, str] = {}
        for event in events:
            if not isinstance(event, CheckpointSaved):
                continue
            if (problem := self._checkpoint_problem(event)) is not None:
                problems[event.step] = "" if event.step in removed else problem
        return problems

    def _has_to_wait(self, event: Event) -> bool:
        """A checkpoint's row is written when its folder is where all hosts find it."""
        if not isinstance(event, CheckpointSaved) or self._checkpoint_problem(event) is not None:
            return False
        try:
            place = self._uploads.place_of(self._run_dir / event.path, event.step, event.manifest_sha256)
        except FileNotFoundError:
            self._dropped.add(event.manifest_sha256)
            return False
        return place is None

    def _checkpoint_problem(self, event: CheckpointSaved) -> str | None:
        if self._uploads.holds(event.manifest_sha256):
            return None
        manifest = self._run_dir / event.path / MANIFEST_NAME
        if event.manifest_sha256 in self._dropped:
            return f"checkpoint of step {event.step}: it was removed before it could be sent to the store"
        if not manifest.resolve().is_relative_to(self._run_dir.resolve()):
            return f"checkpoint of step {event.step}: {event.path} lies outside the run directory"
        if not manifest.is_file():
            if self._is_removed_later(event.step):
                return ""
            return f"checkpoint of step {event.step}: {event.path} has no {MANIFEST_NAME}"
        if (found := file_sha256(manifest)) != event.manifest_sha256:
            return (
                f"checkpoint of step {event.step}: the manifest's SHA-256 is {found}, but the event says "
                f"{event.manifest_sha256}"
            )
        return None

    def _is_removed_later(self, step: int) -> bool:
        """Whether the trainer, ahead of us, reports that it has dropped the checkpoint."""
        batch = read_batch(self.path, self.relayed)
        while batch.end > batch.start:
            if any(isinstance(one, CheckpointRemoved) and one.step == step for one in batch.events):
                return True
            batch = read_batch(self.path, batch.end)
        return False

    def _row(self) -> tuple[ColumnElement[bool], ...]:
        return JobAttempt.job_id == self._claim.id, JobAttempt.attempt == self._source


def unrelayed_attempts(claim: Claim, run_dir: Path) -> list[int]:
    """Earlier attempts whose event files hold lines that no worker has relayed."""
    with read_session() as session:
        rows = session.execute(
            select(JobAttempt.attempt, JobAttempt.relayed_bytes)
            .where(JobAttempt.job_id == claim.id, JobAttempt.attempt < claim.attempt)
            .order_by(JobAttempt.attempt)
        )
        offsets = dict(rows.all())
    paths = {attempt: run_dir / events_name(attempt) for attempt in offsets}
    return [n for n, path in paths.items() if path.is_file() and path.stat().st_size > offsets[n]]


def _progress(events: list[Event], time_told: clock.Clock) -> dict[str, object]:
    """New values of the job's row: its progress and its clock."""
    progress: dict[str, object] = {}
    for event in events:
        time_told.see(event)
        if isinstance(event, Started | StepMetrics):
            progress["step"] = event.step
        elif isinstance(event, Finished | Stopped):
            progress |= {"step": event.step, "trained_tokens": event.trained_tokens}
    return progress | asdict(time_told) if "step" in progress else progress


def metrics_event_id(job_id: str, step: int) -> str:
    """The id of the one metrics event that a step has."""
    return f"ftevent-{hashlib.sha256(f'{job_id}/metrics/{step}'.encode()).hexdigest()[:24]}"


def add_metrics_event(session: Session, job_id: str, event: StepMetrics) -> None:
    """Append the step's metrics event, once in the life of a job: a step done again adds none."""
    statement = insert_for(session, JobEvent).values(
        id=metrics_event_id(job_id, event.step),
        job_id=job_id,
        created_at=event.time,
        level="info",
        type="metrics",
        message=metrics_message(event),
        data=metrics_data(event),
    )
    # The caller holds the job's row, as add_event wants it for the order of the sequence numbers.
    session.execute(statement.on_conflict_do_nothing(index_elements=["id"]))


def _started_text(event: Started) -> str:
    done = f" after step {event.step}" if event.step else ""
    return (
        f"The model is loaded{done}: {event.total_steps} steps, {event.parameters:,} weights, {event.device}."
    )


def _add(session: Session, job_id: str, when: float, level: Level, text: str, event: Started | Phase) -> None:
    add_event(session, job_id, level, "message", text, event.model_dump(exclude={"type", "time"}), now=when)


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause) or type(cause).__name__).splitlines()[0][:300]
