"""Runs the probes of estimates: a trainer process like any job's, held by a lease, gone with its folder."""

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from app.db import read_session, write_session
from app.estimates import repository
from app.estimates.service import announce
from app.settings import get_settings
from trainer.events import read_events
from trainer.spec import RunSpec
from worker.launcher import Trainer, events_name, write_spec
from worker.probe import Measured, probe_spec, reckon
from worker.shutdown import Shutdown

MAX_ATTEMPTS = 2
#: Estimates are looked at soon or not at all.
KEPT_SECONDS = 7 * 24 * 3600.0
_LOOK_SECONDS = 0.5
_PASS_LIMIT = 100
_log = logging.getLogger(__name__)


def run_probe(estimate_id: str, shutdown: Shutdown) -> None:
    """Claim the estimate and run its probe; nothing happens when it does not wait."""
    if shutdown.requested:
        return
    settings = get_settings()
    with write_session() as session:
        claimed = repository.claim(session, estimate_id, settings.lease_seconds, MAX_ATTEMPTS)
    if claimed is None:
        return
    attempt, stored = claimed
    spec = RunSpec.model_validate(stored)
    run_dir = settings.runs_dir / "estimates" / f"{estimate_id}-{attempt}"
    try:
        outcome = _probe(estimate_id, attempt, spec, run_dir, shutdown)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    with write_session() as session:
        if outcome is None:
            repository.release(session, estimate_id, attempt)
        else:
            repository.finish(session, estimate_id, attempt, **outcome)
    _log.info("%s: attempt %s: %s", estimate_id, attempt, outcome)


def announce_probes() -> None:
    """Send the messages of estimates that nobody heard of, and forget old ones; part of reconciliation."""
    with read_session() as session:
        silent = repository.waiting(session, get_settings().wakeup_resend_seconds, _PASS_LIMIT)
    for estimate_id in silent:
        announce(estimate_id)
    with write_session() as session:
        repository.remove_older(session, time.time() - KEPT_SECONDS)


def _probe(
    estimate_id: str, attempt: int, spec: RunSpec, run_dir: Path, shutdown: Shutdown
) -> dict[str, Any] | None:
    """``{"result": …}`` or ``{"error": …}``; None when the worker is shutting down or lost its hold."""
    settings = get_settings()
    write_spec(run_dir, probe_spec(spec).model_dump(mode="json"))
    measured = Measured(began=time.time())
    ended = threading.Event()
    trainer = Trainer.start(settings.trainer_command, run_dir, attempt, ended.set)
    deadline = time.monotonic() + settings.estimate_seconds
    renewed, given_up = time.monotonic(), False
    try:
        with shutdown.waking(ended):
            while trainer.running and not given_up:
                ended.wait(_LOOK_SECONDS)
                now = time.monotonic()
                if now - renewed >= settings.heartbeat_seconds:
                    renewed = now
                    with write_session() as session:
                        given_up = not repository.renew(session, estimate_id, attempt, settings.lease_seconds)
                given_up = given_up or shutdown.requested or now >= deadline
    finally:
        code = trainer.close()
    if shutdown.requested:
        return None
    measured.read(event for event, _ in read_events(run_dir / events_name(attempt)))
    if measured.finished is not None:
        return {"result": reckon(spec, measured)}
    if measured.failed is not None:
        failed = measured.failed
        return _error(failed.code, failed.message, failed.param)
    if time.monotonic() >= deadline:
        text = (
            f"The probe was stopped after {settings.estimate_seconds:g} s, with {len(measured.steps)} of its "
            "steps done: a job with smaller steps can be estimated, or one on a faster machine."
        )
        return _error("probe_timeout", text)
    return _error("trainer_crashed", f"The probe ended with code {code}. {trainer.log_tail()[-500:]}".strip())


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "param": param}}
