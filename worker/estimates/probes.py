"""Runs the probes of estimates: a trainer process like any job's, held by a lease, gone with its folder."""

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import TypedDict

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.core.tables import Estimate
from app.estimates import repository
from app.estimates.service import announce
from trainer.spec.events import read_events
from trainer.spec.resources import Resources
from trainer.spec.run import RunSpec
from worker.estimates.probe import Measured, estimate_run, probe_spec
from worker.jobs.launcher import Trainer, command_line, events_name, write_spec
from worker.jobs.places import fetched
from worker.lease import Claim, Lease, LeaseLost
from worker.shutdown import Shutdown

ESTIMATES = Lease(Estimate, [repository.RUNNING])
MAX_ATTEMPTS = 2
#: Estimates are looked at soon or not at all.
KEPT_SECONDS = 7 * 24 * 3600.0
_LOOK_SECONDS = 0.5
_PASS_LIMIT = 100
_log = logging.getLogger(__name__)


class Outcome(TypedDict, total=False):
    """Of a probe: what it measured, or why it could not."""

    result: dict[str, object]
    error: dict[str, str | None]


def run_probe(estimate_id: str, owner: str, shutdown: Shutdown, slots: tuple[int, ...] | None = None) -> None:
    """Claim the estimate and run its probe; nothing happens when it does not wait."""
    if shutdown.requested or (taken := claim(estimate_id, owner)) is None:
        return
    held, spec = taken
    run_dir = get_settings().runs_dir / "estimates" / f"{held.id}-{held.attempt}"
    try:
        try:
            outcome = _probe(held, spec, run_dir, shutdown, slots)
        finally:
            # Whoever reads that the estimate has ended finds nothing of it left.
            shutil.rmtree(run_dir, ignore_errors=True)
        with write_session() as session:
            if outcome is None:
                # Untried, for the next worker.
                ESTIMATES.finish(session, held, repository.QUEUED, attempt=held.attempt - 1, enqueued_at=None)
            else:
                _finish(session, held, **outcome)
    except LeaseLost as lost:
        _log.warning("%s; stopping its probe without recording anything", lost)
        return
    _log.info("%s: attempt %s: %s", held.id, held.attempt, outcome)


def gpus_of(estimate_id: str) -> int:
    """How many GPUs of a worker the probe takes: as many as the job would."""
    with read_session() as session:
        spec = session.scalar(select(Estimate.run_spec).where(Estimate.id == estimate_id))
    return Resources.model_validate((spec or {}).get("resources") or {}).of_a_worker


def claim(estimate_id: str, owner: str) -> tuple[Claim, RunSpec] | None:
    """Take an estimate that waits, or whose worker was lost; None when it is not to be had.

    One that was lost :data:`MAX_ATTEMPTS` times is failed.
    """
    free = or_(Estimate.status == repository.QUEUED, and_(*ESTIMATES.lost()))
    waiting = select(Estimate.id).where(Estimate.id == estimate_id, free)
    with write_session() as session:
        claiming = ESTIMATES.claiming(waiting, Estimate.run_spec, status=repository.RUNNING)
        found = ESTIMATES.claim(session.connection(), claiming, owner)
        if found is None:
            return None
        held, (stored,) = found
        if held.attempt > MAX_ATTEMPTS:
            text = f"Its probe was lost {MAX_ATTEMPTS} times along with the worker running it."
            _finish(session, held, **_error("worker_lost", text))
            return None
    return held, RunSpec.model_validate(stored)


def _finish(
    session: Session,
    held: Claim,
    *,
    result: dict[str, object] | None = None,
    error: dict[str, str | None] | None = None,
) -> None:
    status = repository.FAILED if result is None else repository.SUCCEEDED
    ESTIMATES.finish(session, held, status, result=result, error=error, finished_at=time.time())


def announce_probes() -> None:
    """Send the messages of estimates that nobody heard of, and forget old ones; part of reconciliation."""
    with read_session() as session:
        silent = repository.waiting(session, get_settings().wakeup_resend_seconds, _PASS_LIMIT)
    for estimate_id in silent:
        announce(estimate_id)
    with write_session() as session:
        repository.remove_older(session, time.time() - KEPT_SECONDS)


def _probe(
    held: Claim, spec: RunSpec, run_dir: Path, shutdown: Shutdown, slots: tuple[int, ...] | None
) -> Outcome | None:
    """``{"result": …}`` or ``{"error": …}``; None when the worker is shutting down. Raises LeaseLost."""
    settings = get_settings()

    def renew() -> None:
        with write_session() as session:
            ESTIMATES.renew(session, held)

    try:
        own = fetched(held.id, probe_spec(spec).model_dump(mode="json"), run_dir, renew, shutdown)
    except (StoreError, OSError) as error:
        return _error("store_unavailable", str(error))
    if own is None:
        return None
    write_spec(run_dir, own)
    measured = Measured(began=time.time())
    ended = threading.Event()
    command = command_line(settings.trainer_command, spec.resources, spec.resources.of_a_worker)
    trainer = Trainer.start(command, run_dir, held.attempt, ended.set, slots)
    deadline = time.monotonic() + settings.estimate_seconds
    renewed, given_up = time.monotonic(), False
    try:
        with shutdown.waking(ended):
            while trainer.running and not given_up:
                ended.wait(_LOOK_SECONDS)
                now = time.monotonic()
                if now - renewed >= settings.heartbeat_seconds:
                    renewed = now
                    renew()
                given_up = shutdown.requested or now >= deadline
    finally:
        code = trainer.close()
    if shutdown.requested:
        return None
    measured.read(event for event, _ in read_events(run_dir / events_name(held.attempt)))
    if measured.finished is not None:
        return {"result": estimate_run(spec, measured, Path(own["model"]["path"]))}
    if measured.failed is not None:
        failed = measured.failed
        return _error(failed.code, failed.message, failed.param)
    if time.monotonic() >= deadline:
        text = (
            f"The probe was stopped after {settings.estimate_seconds:g} s, with {len(measured.steps)} of "
            "its steps done: try a job with smaller steps, or a faster machine."
        )
        return _error("probe_timeout", text)
    return _error("trainer_crashed", f"The probe ended with code {code}. {trainer.log_tail()[-500:]}".strip())


def _error(code: str, message: str, param: str | None = None) -> Outcome:
    return {"error": {"code": code, "message": message, "param": param}}
