"""Runs one job from claim to end: launch the trainer, relay its events, keep the lease, obey the flags.

One thread per job, beside that of its heartbeat; it sleeps on an event that the trainer's exit, the worker's
shutdown and the user's flags set.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import InterfaceError, OperationalError

from app.checkpoints.repository import has_checkpoint
from app.core import tracing
from app.core.db import read_session, write_session
from app.core.job_log import Level, add_event
from app.core.job_status import JobStatus, is_terminal
from app.core.queue import announce
from app.core.settings import get_settings
from app.core.store.artefacts import in_use, remove_below
from app.core.store.errors import StoreError
from app.core.store.runs import states_name
from app.core.store.specs import places_of
from app.core.strict_json import JsonObject
from app.core.tables import Job, JobAttempt
from app.files import storage
from app.jobs.status import change_status
from trainer.spec.events import Finished, StepMetrics
from trainer.spec.resources import Resources
from trainer.system import logs
from worker import figures
from worker.gpus import Slots
from worker.jobs import clock, holding
from worker.jobs.causes import memory_kills
from worker.jobs.disk_reserve import folder_bytes, lacks_room, no_room
from worker.jobs.ending import Asked, Ending, Outcome, apply_ending, classify_ending, disk_full
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.holding import Flags
from worker.jobs.integrations import Integrations
from worker.jobs.launcher import Trainer, command_line, fewer_text, write_spec
from worker.jobs.places import FIRST_WAIT, Fetching
from worker.jobs.relay import End, Relay, unrelayed_attempts
from worker.jobs.results import store_results
from worker.jobs.room import Room
from worker.jobs.stall import StallWatch
from worker.jobs.tracing import AttemptTrace
from worker.jobs.uploads import Uploads
from worker.lease import Claim, LeaseLost
from worker.shutdown import Shutdown

#: Seconds until the next attempt to claim jobs that others have locked.
LOCKED_SECONDS = 0.05
RELAY_SECONDS = 0.25
ROOM_SECONDS = 2.0
MEASURE_SECONDS = 60.0
# From the trainer's last event to its exit: more than any library needs to shut down.
EXIT_SECONDS = 30.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


def run_next(owner: str, shutdown: Shutdown, room: Room | None = None) -> Outcome | None:
    """Run the waiting job whose turn it is (``app.jobs.order``) to the end of the attempt.

    ``room`` is the worker's; without, it is for one GPU. None when there was nothing to do, when the lease
    was lost on the way, or when the worker is shutting down: the row is consistent for whoever acts on it
    next.
    """
    room = room or Room(Slots([()]))
    while not shutdown.requested:
        with room.claimed(owner) as taken:
            if taken is not None:
                return _run(*taken, shutdown)
        if not room.any_due():
            break
        # Others have all of them locked: for as long as a claim takes, or a request.
        shutdown.wait(LOCKED_SECONDS)
    return None


def _run(claim: Claim, slots: tuple[int, ...], shutdown: Shutdown) -> Outcome | None:
    with logs.about(job=claim.id, attempt=claim.attempt):
        _log.info("%s: claimed as attempt %s", claim.id, claim.attempt)
        try:
            ending = Supervisor(claim, slots, shutdown).run()
        except LeaseLost as error:
            _log.warning("%s; stopping its trainer without recording anything", error)
            return None
        _log.info("%s: attempt %s: %s %s", claim.id, claim.attempt, ending.outcome, ending.message)
        return ending.outcome


class Supervisor:
    """One attempt at one job."""

    def __init__(self, claim: Claim, slots: tuple[int, ...], shutdown: Shutdown):
        self._claim, self._slots = claim, slots
        self._shutdown = shutdown
        self._settings = get_settings()
        self._run_dir: Path = self._settings.runs_dir / claim.id
        self._wake = threading.Event()
        self._asked: Asked | None = None
        self._caught_up = False
        self._kill_at = self._exit_by = float("inf")
        self._integrations = Integrations(claim, self._run_dir)
        self._uploads = Uploads(claim.id, self._run_dir, self._wake)
        self._told_of_store: str | None = None
        self._next_room = 0.0
        self._next_measure = 0.0
        self._heartbeat = Heartbeat(claim, self._wake)
        self._trace = AttemptTrace(claim)

    def run(self) -> Ending:
        """Run to the attempt's end; raises LeaseLost with the trainer's group gone and nothing written."""
        try:
            with self._shutdown.waking(self._wake):
                return self._conclude(self._train())
        finally:
            self._trace.end(Outcome.LOST, "lease_lost")
            self._uploads.close()
            self._heartbeat.stop()

    def _train(self) -> Ending:
        spec, planned_steps = self._persist(self._read_plan)
        self._persist(lambda: self._begin_trace(spec))
        with in_use(places_of(spec)):
            return self._train_on(spec, planned_steps)

    def _train_on(self, spec: JsonObject, planned_steps: int) -> Ending:
        fetching = Fetching(self._claim.id, spec, self._run_dir, self._wake)
        if (refusal := self._wait_for(fetching)) is not None:
            return refusal
        assert fetching.spec is not None
        for note in fetching.notes:
            self._persist(lambda note=note: self._tell("warn", note, {}))
        spec = fetching.spec
        resources = Resources.model_validate(spec.get("resources") or {})
        try:
            write_spec(self._run_dir, spec)
            self._catch_up()
            if (refusal := self._integrate()) is not None:
                return refusal
            if self._claim.gpus < resources.of_a_worker:
                self._persist(lambda: self._tell("warn", fewer_text(resources, self._claim.gpus), {}))
            command = command_line(self._settings.trainer_command, resources, self._claim.gpus)
            trainer = Trainer.start(command, self._run_dir, self._claim.attempt, self._wake.set, self._slots)
        except OSError as error:
            self._integrations.close()
            cause = f"the trainer could not be started: {error}"
            return disk_full(None, cause) if no_room(error) else Ending(Outcome.CRASHED, cause, detail=cause)
        relay = Relay(self._claim, self._run_dir, self._uploads, on_step=self._note_step)
        kills = memory_kills()
        try:
            self._watch(trainer, relay)
        finally:
            exit_code = trainer.close()
            self._integrations.close()
        self._relay_rest(relay)
        self._send_rest(relay)
        return classify_ending(
            end=relay.end,
            exit_code=exit_code,
            asked=self._asked,
            planned_steps=planned_steps,
            final_checkpoint=self._persist(lambda: self._has_result(relay.end, planned_steps)),
            log_tail=trainer.log_tail(),
            killed_for_memory=memory_kills() > kills,
        )

    def _wait_for(self, fetching: Fetching) -> Ending | None:
        """Until all that the attempt starts from is on this host; the ending where it never will be."""
        while fetching.running:
            try:
                flags = self._beat()
            except LeaseLost:
                fetching.stop()
                raise
            if flags.cancel_requested or self._shutdown.requested:
                fetching.stop()
                return Ending(Outcome.CANCELLED if flags.cancel_requested else Outcome.RELEASED)
            self._tell_of_store(fetching.problem)
            self._wake.wait(RELAY_SECONDS)
            self._wake.clear()
        error = fetching.error
        if isinstance(error, StoreError):
            return Ending(Outcome.FAILED, error.message, code=error.code or "")
        if isinstance(error, OSError):
            return disk_full(None, str(error)) if no_room(error) else Ending(Outcome.CRASHED, str(error))
        return None

    def _send_rest(self, relay: Relay) -> None:
        """After the trainer's end: its last state goes up, for as long as an ending may take."""
        self._uploads.look_for_state(relay.path, relay.relayed)
        until = min(self._kill_at, time.monotonic() + self._settings.checkpoint_grace_seconds)
        while self._uploads.pending and time.monotonic() < until and self._asked is not Asked.CANCEL:
            self._beat()
            self._wake.wait(RELAY_SECONDS)
            self._wake.clear()

    def _tell_of_store(self, problem: str | None) -> None:
        """Report once why the job waits for the store."""
        if problem is not None and problem != self._told_of_store:
            data: dict[str, object] = {"code": "store_unavailable"}
            if self._attempt(lambda: self._tell("warn", f"{problem} Retrying.", data)):
                self._told_of_store = problem

    def _integrate(self) -> Ending | None:
        """Set the job's integrations up: before training, or not at all."""
        self._persist(self._integrations.start)
        while not self._integrations.known():
            try:
                flags = self._beat()
            except LeaseLost:
                self._integrations.kill()
                raise
            if flags.cancel_requested or self._shutdown.requested:
                self._integrations.kill()
                return Ending(Outcome.CANCELLED if flags.cancel_requested else Outcome.RELEASED)
        if (refusal := self._integrations.refusal) is None:
            return None
        return Ending(Outcome.FAILED, refusal, code="integration_failed", param="integrations")

    def _watch(self, trainer: Trainer, relay: Relay) -> None:
        """Until the trainer has ended."""
        stall = StallWatch(trainer, self._run_dir, self._claim.attempt, self._settings)
        while trainer.running:
            more = self._attempt(self._relaying(relay))
            if relay.started and not self._caught_up:
                # An older trainer may have saved a state, and so events before it, until this one began.
                self._caught_up = True
                self._catch_up()
            self._uploads.look_for_state(relay.path, relay.relayed)
            self._tell_of_store(self._uploads.problem)
            self._look_for_stall(stall, trainer)
            flags = self._beat()
            if relay.used_up:
                # The heartbeat would see it a second later, which is many short steps.
                flags = replace(flags, pause_requested=True)
            self._obey(trainer, flags, ended=relay.end is not None)
            if not more:
                self._wake.wait(RELAY_SECONDS)
                # A shutdown that was asked for in between is seen by its flag, not by this event.
                self._wake.clear()

    def _obey(self, trainer: Trainer, flags: Flags, ended: bool) -> None:
        now = time.monotonic()
        if self._shutdown.requested and self._asked is None:
            self._ask(Asked.SHUTDOWN, trainer, self._settings.checkpoint_grace_seconds)
        if flags.cancel_requested and self._asked is not Asked.CANCEL:
            self._ask(Asked.CANCEL, trainer, self._settings.stop_grace_seconds)
        elif flags.pause_requested and self._asked is None and self._attempt(self._mark_pausing):
            self._ask(Asked.PAUSE, trainer, self._settings.checkpoint_grace_seconds)
        elif self._asked is None and not ended and now >= self._next_room:
            self._next_room = now + ROOM_SECONDS
            if now >= self._next_measure:
                self._next_measure = now + MEASURE_SECONDS
                self._attempt(self._measure)
            if lacks_room(self._run_dir, self._settings) and self._attempt(self._tell_of_disk):
                self._ask(Asked.DISK, trainer, self._settings.checkpoint_grace_seconds)
        if ended and self._exit_by == float("inf"):
            self._exit_by = now + EXIT_SECONDS
        if now >= min(self._kill_at, self._exit_by):
            _log.warning("%s: the trainer does not stop; killing its process group", self._claim.id)
            trainer.kill()
            self._kill_at = self._exit_by = now + EXIT_SECONDS

    def _look_for_stall(self, watch: StallWatch, trainer: Trainer) -> None:
        if self._asked is not None:
            return  # it is being ended already
        if (stall := watch.look()) is not None:
            data: dict[str, object] = {
                "seconds": round(stall.seconds, 1),
                "state": stall.state,
                "stack": stall.stack,
            }
            if self._attempt(lambda: self._tell("warn", stall.message, data)):
                watch.told()
        if watch.hopeless:
            _log.warning("%s: the trainer makes no progress; ending it", self._claim.id)
            self._asked = Asked.STALL
            trainer.kill()

    def _tell(self, level: Level, message: str, data: dict[str, object]) -> bool:
        with write_session() as session:
            add_event(session, holding.hold(session, self._claim).id, level, "message", message, data)
        return True

    def _ask(self, asked: Asked, trainer: Trainer, grace: float) -> None:
        _log.info("%s: asking the trainer to stop: %s", self._claim.id, asked)
        self._asked = asked
        self._kill_at = time.monotonic() + grace
        trainer.terminate()

    def _beat(self) -> Flags:
        """The user's flags; raises LeaseLost once another worker may hold the job."""
        if self._heartbeat.expired:
            raise LeaseLost(self._claim)
        return self._heartbeat.flags()

    def _attempt(self, action: Callable[[], T]) -> T | None:
        """The action's result, or None while the database cannot be reached.

        Once the lease has run out meanwhile, another worker may hold the job: then LeaseLost.
        """
        try:
            return action()
        except (OperationalError, InterfaceError) as error:
            _log.warning("%s: the database cannot be reached: %s", self._claim.id, error.orig)
            if self._heartbeat.expired:
                raise LeaseLost(self._claim) from error
            return None

    def _persist(self, action: Callable[[], T]) -> T:
        """The action's result, however long the database cannot be reached while the lease lasts."""
        while True:
            done = self._attempt(lambda: (action(),))
            if done is not None:
                return done[0]
            time.sleep(RELAY_SECONDS)

    def _catch_up(self) -> None:
        """Relay what earlier attempts wrote after their workers were lost."""
        for source in self._persist(lambda: unrelayed_attempts(self._claim, self._run_dir)):
            self._relay_rest(Relay(self._claim, self._run_dir, self._uploads, source))

    def _relay_rest(self, relay: Relay) -> None:
        """To the end of its file; a checkpoint on its way to the store is waited for."""
        while self._persist(self._relaying(relay)) or relay.waits:
            flags = self._beat()
            if not relay.waits:
                continue
            if flags.cancel_requested:
                self._asked = Asked.CANCEL
            if flags.cancel_requested or self._gives_up_waiting():
                return
            self._tell_of_store(self._uploads.problem)
            self._wake.wait(RELAY_SECONDS)
            self._wake.clear()

    def _gives_up_waiting(self) -> bool:
        """Whether the attempt is to end, and has waited for the store for as long as it may."""
        if self._shutdown.requested and self._asked is None:
            self._asked = Asked.SHUTDOWN
            self._kill_at = time.monotonic() + self._settings.checkpoint_grace_seconds
        return self._asked is not None and time.monotonic() >= self._kill_at

    def _relaying(self, relay: Relay) -> Callable[[], bool]:
        """One step of the relay, which renews the lease as its last act."""

        def step() -> bool:
            more = relay.step()
            if more:
                self._heartbeat.renewed(relay.renewed_at)
            return more

        return step

    def _conclude(self, ending: Ending) -> Ending:
        results = None
        self._persist(self._measure)
        if ending.outcome is Outcome.SUCCEEDED:
            try:
                if (results := self._store_results(ending)) is None:
                    ending = Ending(Outcome.RELEASED)
            except OSError as error:
                if not no_room(error):
                    raise
                ending = disk_full(None, str(error))
        status = self._persist(lambda: apply_ending(self._claim, ending, results))
        figures.count_attempt(ending.outcome, ending.cause)
        self._trace.end(ending.outcome, ending.cause)
        if results is not None and status is not JobStatus.SUCCEEDED:
            storage.remove(results.id)
        if is_terminal(status.value):
            remove_below(states_name(self._claim.id))
        self._uploads.close(remove_run=True)
        if status is JobStatus.QUEUED:
            announce(self._claim.id)
        return ending

    def _store_results(self, ending: Ending) -> storage.StoredFile | None:
        """The result file, once the store has taken it; None where the worker stops before."""
        step, reason = ending.result_step, ending.result_reason
        while True:
            flags = self._beat()
            try:
                return self._persist(lambda: store_results(self._claim.id, step, reason))
            except StoreError as error:
                self._tell_of_store(error.message)
                if flags.cancel_requested or self._shutdown.requested:
                    return None
            self._wake.wait(FIRST_WAIT)
            self._wake.clear()

    def _read_plan(self) -> tuple[dict[str, object], int]:
        with read_session() as session:
            query = select(Job.run_spec, Job.total_steps, Job.project_id).where(Job.id == self._claim.id)
            spec, planned_steps, project_id = session.execute(query).one()
        logs.note(project=project_id)
        return spec, planned_steps

    def _begin_trace(self, spec: JsonObject) -> None:
        if not tracing.is_on():
            return
        columns = (Job.traceparent, Job.created_at, Job.model)
        with read_session() as session:
            parent, created_at, model = session.execute(
                select(*columns).where(Job.id == self._claim.id)
            ).one()
            ended = select(func.max(JobAttempt.ended_at)).where(JobAttempt.job_id == self._claim.id)
            since = session.scalar(ended) or created_at
        self._trace.begin(parent, since, model, spec)

    def _note_step(self, event: StepMetrics) -> None:
        figures.count_step(event)
        self._trace.step(event)

    def _has_result(self, end: End | None, planned_steps: int) -> bool:
        """Whether the checkpoints of the last step, and of the result's, are registered."""
        steps = {planned_steps}
        if isinstance(end, Finished) and end.result_step is not None:
            steps.add(end.result_step)
        with read_session() as session:
            return all(has_checkpoint(session, self._claim.id, step) for step in steps)

    def _measure(self) -> None:
        used = folder_bytes(self._run_dir)
        with write_session() as session:
            holding.write_progress(session, self._claim, disk_bytes=used)
            clock.count_use(session, self._claim)

    def _mark_pausing(self) -> bool:
        return self._move_to_pausing("The job is being paused.", "info")

    def _tell_of_disk(self) -> bool:
        room = f"less than the {self._settings.disk_reserve_bytes:,} bytes that must stay free"
        return self._move_to_pausing(f"The disk has {room}; the job is being paused.", "error")

    def _move_to_pausing(self, message: str, level: Level) -> bool:
        with write_session() as session:
            job = holding.hold(session, self._claim)
            if job.status != JobStatus.PAUSING.value:
                change_status(session, job, JobStatus.PAUSING, message=message, level=level)
        return True
