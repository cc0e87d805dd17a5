"""Runs replays: one step of a job that does not run, done again, and compared with what it once came to."""

import json
import logging
import threading
import time
from typing import Any

from sqlalchemy import select, update

from app.db import read_session, write_session
from app.queue import send_wakeup
from app.settings import get_settings
from app.tables import Job, JobEvent, JobReplay
from worker.launcher import SPEC_NAME, Trainer, write_spec
from worker.relay import metrics_event_id
from worker.shutdown import Shutdown

_log = logging.getLogger(__name__)


def run_next_replay(owner: str, shutdown: Shutdown) -> str | None:
    """Take the oldest waiting replay and run it to its end; its id, or None when none waits."""
    if shutdown.requested or (taken := _claim(owner)) is None:
        return None
    replay_id, job_id, step = taken
    result, error = _run(replay_id, job_id, step, shutdown)
    if result is None and error is None:
        _finish(replay_id, owner, status="queued", lease_owner=None, lease_expires_at=None, enqueued_at=0.0)
        return None  # the worker stops: another one does it
    if result is not None:
        recorded = _recorded(job_id, step)
        result |= {"recorded_digest": recorded} | compared(result["digest"], recorded)
    status = "failed" if result is None else "succeeded"
    _finish(replay_id, owner, status=status, result=result, error=error, finished_at=time.time())
    _log.info("%s: step %s of %s: %s", replay_id, step, job_id, error or result)
    return replay_id


def compared(digest: dict[str, Any], recorded: dict[str, Any] | None) -> dict[str, Any]:
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
            .where(JobReplay.status == "running", JobReplay.lease_expires_at < now)
            .values(status="failed", error="Its worker was lost. Ask for it again.", finished_at=now)
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


def _claim(owner: str) -> tuple[str, str, int] | None:
    with read_session() as session:
        waiting = session.scalars(
            select(JobReplay.id).where(JobReplay.status == "queued").order_by(JobReplay.created_at).limit(8)
        ).all()
    for replay_id in waiting:
        with write_session() as session:
            row = session.execute(
                update(JobReplay)
                .where(JobReplay.id == replay_id, JobReplay.status == "queued")
                .values(status="running", lease_owner=owner, lease_expires_at=_lease_end())
                .returning(JobReplay.id, JobReplay.job_id, JobReplay.step)
            ).one_or_none()
        if row is not None:
            return row.id, row.job_id, row.step
    return None


def _run(
    replay_id: str, job_id: str, step: int, shutdown: Shutdown
) -> tuple[dict[str, Any] | None, str | None]:
    """The trainer's result, or why there is none; neither when the worker stops."""
    settings = get_settings()
    run_dir = settings.runs_dir / job_id
    result = run_dir / f"replay-{step}.json"
    result.unlink(missing_ok=True)
    wake = threading.Event()
    with read_session() as session:
        spec = session.execute(select(Job.run_spec).where(Job.id == job_id)).scalar_one()
    try:
        if not (run_dir / SPEC_NAME).exists():
            write_spec(run_dir, spec)
        trainer = Trainer.start_replay(settings.trainer_command, run_dir, step, wake.set)
    except OSError as error:
        return None, f"The trainer could not be started: {error}."
    try:
        with shutdown.waking(wake):
            while trainer.running and not shutdown.requested:
                if not wake.wait(settings.heartbeat_seconds):
                    _renew(replay_id)
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


def _renew(replay_id: str) -> None:
    with write_session() as session:
        session.execute(
            update(JobReplay)
            .where(JobReplay.id == replay_id, JobReplay.status == "running")
            .values(lease_expires_at=_lease_end())
        )


def _finish(replay_id: str, owner: str, **values: Any) -> None:
    with write_session() as session:
        session.execute(
            update(JobReplay)
            .where(JobReplay.id == replay_id, JobReplay.status == "running", JobReplay.lease_owner == owner)
            .values(**values)
        )


def _lease_end() -> float:
    return time.time() + get_settings().lease_seconds


def _recorded(job_id: str, step: int) -> dict[str, Any] | None:
    """The digest that the step's event carries; None where it has none, or has expired."""
    with read_session() as session:
        data = session.scalar(select(JobEvent.data).where(JobEvent.id == metrics_event_id(job_id, step)))
    return (data or {}).get("digest")
