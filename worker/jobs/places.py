"""Where a specification's files are on this host, and the run's folder as other hosts left it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from app.core.db import read_session
from app.core.settings import get_settings
from app.core.store.artefacts import is_stored, local
from app.core.store.errors import Damaged, NotStored, StoreError
from app.core.store.remote import remote
from app.core.store.runs import RUN_NAME, link, steps_in, stored_states
from app.core.store.specs import with_places
from app.core.strict_json import JsonObject
from app.core.tables import Checkpoint
from trainer.spec.manifest import MANIFEST_NAME
from trainer.system import logs
from worker.shutdown import Shutdown

T = TypeVar("T")


def restore(job_id: str, run_dir: Path) -> list[str]:
    """Have in ``run_dir`` what the job's attempts on other hosts left in the store: checkpoints that have
    rows, and the newest undamaged state to resume from; what is wrong with newer ones. Nothing is copied
    twice on one file system. Raises StoreError, also where a job has damaged states alone."""
    if remote() is None:
        return []
    with read_session() as session:
        rows = session.execute(select(Checkpoint.step, Checkpoint.path).where(Checkpoint.job_id == job_id))
        checkpoints = [(step, place) for step, place in rows.all() if is_stored(place)]
    for step, place in checkpoints:
        if not (run_dir / "checkpoints" / f"step-{step}" / MANIFEST_NAME).is_file():
            link(local(place), run_dir / "checkpoints" / f"step-{step}")
    here = max(steps_in(run_dir / "state"), default=-1)
    states = {step: place for step, place in stored_states(job_id).items() if step > here}
    damaged: list[Damaged] = []
    for step in sorted(states, reverse=True):
        try:
            folder = local(str(states[step]))
        except Damaged as error:
            damaged.append(error)
            continue
        for inside in (RUN_NAME, f"state/step-{step}"):
            if (folder / inside).exists():
                link(folder / inside, run_dir / inside)
        break
    else:
        if damaged and here < 0:
            raise damaged[0]
    return [f"{error.message} The state before it is taken." for error in damaged]


class Fetching:
    """Everything that an attempt starts from, being brought here by a thread; ``wake`` is set at its end.

    A store that is away is waited for; what it does not have, or gives damaged, is final.
    """

    def __init__(self, job_id: str, spec: JsonObject, run_dir: Path, wake: threading.Event):
        self.spec: JsonObject | None = None
        """With paths of this host, once all is there."""
        self.notes: list[str] = []
        """What was wrong and is got over."""
        self.error: Exception | None = None
        self.problem: str | None = None
        """Why it takes so long."""
        self._stopped, self._over = threading.Event(), threading.Event()
        if remote() is None:
            self.spec = spec
            self._over.set()
            return

        def fetch() -> None:
            self.notes = restore(job_id, run_dir)
            self.spec = with_places(spec, lambda place: str(local(place)))

        def run() -> None:
            try:
                persist(fetch, self._stopped, self._tell)
            except (StoreError, OSError) as error:
                self.error = error
            finally:
                self._over.set()
                wake.set()

        threading.Thread(target=logs.carried(run), name=f"fetching {job_id}", daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether it is still under way."""
        return not self._over.is_set()

    def stop(self) -> None:
        """Try no more."""
        self._stopped.set()

    def _tell(self, problem: str) -> None:
        self.problem = problem


def fetched(
    row_id: str, spec: JsonObject, run_dir: Path, beat: Callable[[], None], shutdown: Shutdown
) -> JsonObject | None:
    """As :class:`Fetching`, waited for, with a ``beat`` at each heartbeat; None where the worker stops.

    Raises StoreError and OSError, and what ``beat`` raises.
    """
    wake = threading.Event()
    fetching = Fetching(row_id, spec, run_dir, wake)
    try:
        with shutdown.waking(wake):
            while fetching.running and not shutdown.requested:
                if not wake.wait(get_settings().heartbeat_seconds):
                    beat()
                wake.clear()
    finally:
        fetching.stop()
    if fetching.error is not None:
        raise fetching.error
    return fetching.spec


FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


def persist(action: Callable[[], T], stopped: threading.Event, told: Callable[[str], None]) -> T:
    """The action's result, however long the store is away; raises its StoreError once ``stopped``."""
    wait = FIRST_WAIT
    while True:
        try:
            return action()
        except NotStored:
            raise
        except StoreError as error:
            if error.code == "artefact_damaged":
                raise
            told(error.message)
            if stopped.wait(wait):
                raise
            wait = min(2 * wait, LONGEST_WAIT)
