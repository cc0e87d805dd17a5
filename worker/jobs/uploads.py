"""What a run uploads to the store for other hosts: checkpoints before their rows, states after their events.

A thread of its own sends one thing after the other, for as long as the store is away, and the trainer goes
on meanwhile. What waits is linked beside the run's folders, so that the trainer may drop its own. Without a
store everything is where the trainer wrote it.
"""

import logging
import queue
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.core.store.artefacts import keep, remove_below
from app.core.store.errors import StoreError
from app.core.store.remote import remote
from app.core.store.runs import OUTGOING, checkpoint_name, link, link_state, send_state, steps_in
from trainer.system import logs
from worker.jobs.places import persist

_log = logging.getLogger(__name__)


class Uploads:
    """Of one attempt; ``wake`` is set whenever something has gone up."""

    def __init__(self, job_id: str, run_dir: Path, wake: threading.Event):
        self.problem: str | None = None
        """Why something could not be uploaded so far."""
        self._job_id, self._run_dir, self._wake = job_id, run_dir, wake
        self._needed = remote() is not None
        self._places: dict[str, str | None] = {}
        self._seen_state = -1
        self._state: tuple[int, int] | None = None
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def holds(self, manifest_sha256: str) -> bool:
        """Whether the checkpoint was taken over from the trainer."""
        return manifest_sha256 in self._places

    def place_of(self, folder: Path, step: int, manifest_sha256: str) -> str | None:
        """Where the finished checkpoint in ``folder`` is for all hosts; None while it is on its way.

        Raises FileNotFoundError where the trainer has dropped it before anybody asked.
        """
        if not self._needed:
            return str(folder)
        if manifest_sha256 not in self._places:
            linked = self._run_dir / OUTGOING / f"step-{step}-{manifest_sha256[:16]}"
            if not linked.is_dir():
                link(folder, linked)
            self._places[manifest_sha256] = None
            self._submit(lambda: self._send_checkpoint(step, linked, manifest_sha256))
        return self._places[manifest_sha256]

    def look_for_state(self, events: Path, relayed: int) -> None:
        """Send the newest state up once all events are relayed that were written before it.

        Whoever resumes from it then finds no gap. ``relayed``: bytes of the trainer's ``events``.
        """
        if not self._needed:
            return
        newest = max(steps_in(self._run_dir / "state"), default=-1)
        if newest > self._seen_state:
            self._seen_state, self._state = newest, (newest, events.stat().st_size if events.exists() else 0)
        if self._state is not None and relayed >= self._state[1]:
            step, self._state = self._state[0], None
            with suppress(FileNotFoundError):  # a newer one has replaced it meanwhile
                linked = link_state(self._run_dir, step)
                self._submit(lambda: send_state(self._job_id, step, linked))

    def remove(self, prefix: str) -> None:
        """Remove what no row names any more from the store."""
        if self._needed:
            self._submit(lambda: remove_below(prefix))

    @property
    def pending(self) -> bool:
        """Whether something is still on its way."""
        return self._tasks.unfinished_tasks > 0

    def close(self, *, remove_run: bool = False) -> None:
        """Send no more; with ``remove_run`` the run's folder is removed, unless something in it was not
        sent."""
        complete = not self.pending
        self._stopped.set()
        self._tasks.put(None)
        if remove_run and complete and self._needed:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def _submit(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)
        if self._thread is None:
            self._thread = threading.Thread(
                target=logs.carried(self._run), name=f"uploads {self._job_id}", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                persist(task, self._stopped, self._tell)
                self.problem = None
            except (StoreError, OSError) as error:
                self._tell(str(error))
                if self._stopped.is_set():
                    return  # it counts as pending: the run's folder stays
            except Exception:
                _log.exception("%s: an upload to the store failed", self._job_id)
            self._tasks.task_done()
            self._wake.set()

    def _send_checkpoint(self, step: int, folder: Path, manifest_sha256: str) -> None:
        self._places[manifest_sha256] = keep(checkpoint_name(self._job_id, step), folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning("%s: %s", self._job_id, problem)
        self.problem = problem
