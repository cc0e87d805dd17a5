"""The integrations of a claimed job: what its row asks for, and reporting how they work."""

import logging
import time
from pathlib import Path

from sqlalchemy import select

from app.core.db import read_session, write_session
from app.core.job_log import add_event
from app.core.tables import Job
from worker.integrations.feed import SETUP_SECONDS, Feed
from worker.jobs.launcher import events_name
from worker.lease import Claim

_WAIT_SECONDS = 0.25
_log = logging.getLogger(__name__)


class Integrations:
    """Of one attempt; all of it does nothing where the job has none."""

    def __init__(self, claim: Claim, run_dir: Path):
        self._claim, self._run_dir = claim, run_dir
        self._feed: Feed | None = None
        self._give_up_at = 0.0
        self.refusal: str | None = None
        """Why they cannot work, once :meth:`known`."""

    def start(self) -> None:
        """Begin to set them up."""
        with read_session() as session:
            job = session.execute(
                select(Job.integrations, Job.model, Job.method, Job.user_metadata).where(
                    Job.id == self._claim.id
                )
            ).one()
        if not job.integrations:
            return
        request: dict[str, object] = {
            "integrations": job.integrations,
            "events": str(self._run_dir / events_name(self._claim.attempt)),
            "facts": {
                "job_id": self._claim.id,
                "model": job.model,
                "run_dir": str(self._run_dir),
                "config": job.method,
                "metadata": job.user_metadata or {},
            },
        }
        log = self._run_dir / f"integrations-{self._claim.attempt}.log"
        self._give_up_at = time.monotonic() + SETUP_SECONDS
        self._feed = Feed(request, log, self._warn)

    def known(self) -> bool:
        """Whether it is known if they work; waits a moment to find out."""
        if self._feed is None:
            return True
        if self._feed.wait(_WAIT_SECONDS):
            self.refusal = self._feed.refusal
        elif time.monotonic() >= self._give_up_at:
            self.refusal = f"The integrations were not set up within {SETUP_SECONDS:g} s."
        else:
            return False
        if self.refusal is not None:
            self.kill()
        return True

    def close(self) -> None:
        """The attempt is over; what remains is handed over meanwhile."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def kill(self) -> None:
        """End them at once."""
        if self._feed is not None:
            self._feed.kill()
            self._feed = None

    def _warn(self, text: str) -> None:
        try:
            with write_session() as session:
                add_event(session, self._claim.id, "warn", "message", text)
        except Exception:
            # It is only a remark: the job does not depend on it.
            _log.exception("%s: could not record an event: %s", self._claim.id, text)
