"""Runs replays: one step of a job that does not run, done again, and compared with what it once came to."""

import json
import logging
import threading
import time
from collections.abc import Mapping

from sqlalchemy import select, update

from app.core.db import read_session, write_session
from app.core.queue import send_wakeup
from app.core.settings import get_settings
from app.core.store.errors import StoreError
from app.core.strict_json import JsonObject
from app.core.tables import Job, JobEvent, JobReplay
from worker.jobs.launcher import SPEC_NAME, Trainer, write_spec
from worker.jobs.places import fetched
from worker.jobs.relay import metrics_event_id
from worker.lease import Claim, Lease, LeaseLost
from worker.shutdown import Shutdown

REPLAYS = Lease(JobReplay, ["running"])
_log = logging.getLogger(__name__)


def run_next_replay(owner: str, shutdown: Shutdown, slots: tuple[int, ...] | None = None) -> str | None:
    """Take the oldest waiting replay and run it to its end; its id, or None when none waits, when the lease
    was lost on the way, or when the worker is shutting down."""
    if shutdown.requested or (taken := _claim(owner)) is None:
        return None
    claim, job_id, step = taken
    try:
        result, error = _run(claim, job_id, step, shutdown, slots)
        if result is None and error is None:
            _finish(claim, "queued", enqueued_at=0.0)
            return None  # the worker stops: another one does it
        if result is not None:
            recorded = _recorded(job_id, step)
            result |= {"recorded_digest": recorded} | compared(result["digest"], recorded)
        status = "failed" if result is None else "succeeded"
        _finish(claim, status, result=result, error=error, finished_at=time.time())
    except LeaseLost as lost:
        _log.warning("%s; stopping its trainer without recording anything", lost)
        return None
    _log.info("%s: step %s of %s: %s", claim.id, step, job_id, error or result)
    return claim.id


def compared(digest: Mapping[str, object], recorded: Mapping[str, object] | None) -> JsonObject:
    """Part by part whether two digests agree; what one of them lacks is not compared."""
    if recorded is None:
        return {"matches": None, "compared": {}}
    parts = {
        name: value == recorded[name]
        for name, value in digest.items()
        if value is not None and recorded.get(name) is not None
    }
    return {"matches": all(parts.values()), "compared": parts}


def reconcile_replays() -> None:
    """Fail the replays whose workers were lost; send wake-up messages again that got lost."""
    now = time.time()
    with write_session() as session:
        session.execute(
            update(JobReplay)
            .where(*REPLAYS.lost())
            .values(status="failed", error="Its worker was lost. Request the replay again.", finished_at=now)
        )
        silent = session.scalars(
            update(JobReplay)
            .where(
                JobReplay.status == "queued",
                JobReplay.enqueued_at < now - get_settings().wakeup_resend_seconds,
            )
            .values(enqueued_at=now)
            .returning(JobReplay.id)
        ).all()
    for replay_id in silent:
        send_wakeup(replay_id)


def _claim(owner: str) -> tuple[Claim, str, int] | None:
    waiting = select(JobReplay.id).where(JobReplay.status == "queued").order_by(JobReplay.created_at)
    with write_session() as session:
        claiming = REPLAYS.claiming(waiting, JobReplay.job_id, JobReplay.step, status="running")
        found = REPLAYS.claim(session.connection(), claiming, owner)
    if found is None:
        return None
    claim, (job_id, step) = found
    return claim, job_id, step


def _run(
    claim: Claim, job_id: str, step: int, shutdown: Shutdown, slots: tuple[int, ...] | None
) -> tuple[JsonObject | None, str | None]:
    """The trainer's result, or why there is none; neither when the worker stops. Raises LeaseLost."""
    settings = get_settings()
    run_dir = settings.runs_dir / job_id
    result = run_dir / f"replay-{step}.json"
    result.unlink(missing_ok=True)
    wake = threading.Event()
    with read_session() as session:
        spec = session.execute(select(Job.run_spec).where(Job.id == job_id)).scalar_one()
    try:
        spec = fetched(job_id, spec, run_dir, lambda: _renew(claim), shutdown)
    except (StoreError, OSError) as error:
        return None, str(error)
    if spec is None:
        return None, None
    try:
        if not (run_dir / SPEC_NAME).exists():
            write_spec(run_dir, spec)
        trainer = Trainer.start_replay(settings.trainer_command, run_dir, step, wake.set, slots)
    except OSError as error:
        return None, f"The trainer could not be started: {error}."
    try:
        with shutdown.waking(wake):
            while trainer.running and not shutdown.requested:
                if not wake.wait(settings.heartbeat_seconds):
                    _renew(claim)
    finally:
        code = trainer.close()
    if shutdown.requested and code != 0:
        return None, None
    try:
        return json.loads(result.read_bytes()), None
    except (OSError, ValueError):
        return None, f"The trainer ended with code {code}: {trainer.log_tail()}"
    finally:
        result.unlink(missing_ok=True)


def _renew(claim: Claim) -> None:
    with write_session() as session:
        REPLAYS.renew(session, claim)


def _finish(claim: Claim, status: str, **values: object) -> None:
    with write_session() as session:
        REPLAYS.finish(session, claim, status, **values)


def _recorded(job_id: str, step: int) -> dict[str, object] | None:
    """The digest that the step's event carries; None where it has none, or has expired."""
    with read_session() as session:
        data = session.scalar(select(JobEvent.data).where(JobEvent.id == metrics_event_id(job_id, step)))
    return (data or {}).get("digest")
