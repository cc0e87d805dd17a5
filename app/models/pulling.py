"""Fetching base models, for API and command line alike: ``trainer.model.pull`` in a process of its own.

What a pull has come to is in a file of ``.pulls`` in the models folder, beside what it fetches, so that every
API process and command sees it. Whoever runs one holds a lock: a pull that says it runs without its lock was
cut off, and the next one continues it. Whoever wants it to end leaves a file there that its runner looks for.
"""

import contextlib
import fcntl
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from app.core.settings import get_settings
from app.core.store.artefacts import publish_base
from app.core.store.errors import StoreError
from app.core.strict_json import JsonObject
from trainer.system.files import write_atomically
from trainer.system.guarded import guarded

STOP_SECONDS = 5.0
# Who asks for the state looks at the lock by taking it for a moment.
_LOOK_SECONDS = 0.5
#: Until a pull that is to be cancelled has ended.
_CANCEL_SECONDS = 3 * STOP_SECONDS

_CANCELLED = "cancelled"

Facts = JsonObject


class PullFailed(Exception):
    """The model cannot be had: why and what would work, and ``code``, the same for programs."""

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Pull:
    """What a pull has come to."""

    name: str
    status: Literal["running", "succeeded", "failed", "cancelled"]
    stage: str
    started_at: float
    finished_at: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    about: Facts | None = None
    error: dict[str, str] | None = None


class Pulls:
    """Pulls into one folder of models."""

    def __init__(self, models: Path):
        self._models = models

    def about(self, name: str) -> Facts:
        """What would be fetched: licence, bytes, parameters. Raises PullFailed."""
        for facts in self._told(name, "--about"):
            if "about" in facts:
                return facts["about"]
        raise PullFailed("trainer.model.pull said nothing", "pull_failed")

    def pull(
        self, name: str, told: Callable[[Facts], None] = lambda _facts: None, known: Facts | None = None
    ) -> Facts:
        """Fetch a model and return its last facts, ``model`` and ``source``; ``told`` hears each on the way.

        ``known``: what :meth:`about` has said. Raises PullFailed, also where another one fetches it now, and
        where somebody cancels it.
        """
        with self._running(name):
            self._path(name, "cancel").unlink(missing_ok=True)
            state = Pull(name, "running", "asking the model hub", time.time(), about=known)
            self._write(state)
            told({"stage": state.stage})
            try:
                reserve = str(get_settings().disk_reserve_bytes)
                for facts in self._told(name, "--reserve", reserve, cancel=self._path(name, "cancel")):
                    told(facts)
                    if "model" in facts:
                        self._publish(Path(facts["model"]), state)
                        self._write(
                            replace(state, status="succeeded", stage="ready", finished_at=time.time())
                        )
                        return facts
                    if "about" in facts:
                        state = replace(state, about=facts["about"])
                    else:
                        done, total = facts.get("done"), facts.get("total")
                        state = replace(state, stage=facts["stage"], done_bytes=done, total_bytes=total)
                    self._write(state)
                raise PullFailed("trainer.model.pull ended before the model was complete", "pull_failed")
            except PullFailed as error:
                if error.code == _CANCELLED:
                    self._write(_cancelled(state))
                else:
                    problem = {"code": error.code, "message": f"{error}"}
                    self._write(replace(state, status="failed", finished_at=time.time(), error=problem))
                raise

    def _publish(self, folder: Path, state: Pull) -> None:
        """Have the model in the store, where there is one, for the hosts that share nothing else."""
        if not get_settings().store:
            return
        self._write(replace(state, stage="sending it to the store for other hosts"))
        try:
            publish_base(folder.relative_to(self._models).as_posix(), folder)
        except StoreError as error:
            told = f"it is on this host but not in the store: {error.message} Pull it again to send it."
            raise PullFailed(told, "store_unavailable") from None

    def cancel(self, name: str) -> Pull | None:
        """End a pull, whoever runs it, and remove what has come of it, also of one that was cut off.

        Returns what it is afterwards; one that has succeeded stays, and None is none. Raises PullFailed for
        one that does not end.
        """
        state = self.find(name)
        if state is None or state.status in ("succeeded", "cancelled"):
            return state
        self._path(name, "cancel").touch()
        with self._running(name, _CANCEL_SECONDS):
            self._path(name, "cancel").unlink(missing_ok=True)
            state = self._stored(self._path(name, "json"))
            if state is not None and state.status != "succeeded":
                for _ in self._told(name, "--discard"):
                    pass
                state = _cancelled(state)
                self._write(state)
            return state

    def all(self) -> list[Pull]:
        """What is known of pulls, the latest first."""
        found = [self._read(path) for path in self._folder.glob("*.json")]
        return sorted((one for one in found if one is not None), key=lambda one: one.started_at, reverse=True)

    def find(self, name: str) -> Pull | None:
        """The last pull of a model."""
        return self._read(self._path(name, "json"))

    def _told(self, name: str, *options: str, cancel: Path | None = None) -> Iterator[Facts]:
        """What the process says on its way; raises PullFailed, also once there is a file ``cancel``."""
        # It imports nothing from the folder that it runs in.
        options = ("--into", str(self._models), *options)
        command = [sys.executable, "-P", "-m", "trainer.model.pull", *options, "--", name]
        with (
            tempfile.TemporaryFile("w+") as errors,
            guarded(command, STOP_SECONDS, subprocess.PIPE, errors) as process,
            _ended_at(cancel, process) as cancelled,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    facts = json.loads(line)
                except ValueError:
                    continue
                if isinstance(facts, dict) and "error" in facts:
                    raise PullFailed(facts["error"]["message"], facts["error"]["code"])
                if isinstance(facts, dict):
                    yield facts
            if process.wait() != 0 and cancelled.is_set():
                raise PullFailed(f"the pull of {name} was cancelled", _CANCELLED)
            if process.returncode != 0:
                errors.seek(0)
                said = errors.read().strip().splitlines() or [f"it ended with status {process.returncode}"]
                raise PullFailed(said[-1], "pull_failed")

    @contextlib.contextmanager
    def _running(self, name: str, seconds: float = _LOOK_SECONDS) -> Iterator[None]:
        """Hold the lock of the model's pull; raises PullFailed where another one has it for so long."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path(name, "lock").open("a") as lock:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PullFailed(f"another pull of {name} is in progress", "pull_under_way") from None
                    time.sleep(_LOOK_SECONDS / 10)
            yield

    def _is_running(self, name: str) -> bool:
        try:
            with self._path(name, "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _stored(self, path: Path) -> Pull | None:
        try:
            return Pull(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _read(self, path: Path) -> Pull | None:
        state = self._stored(path)
        if state is None:
            return None
        if state.status == "running" and not self._is_running(state.name):
            message = f"The pull of {state.name} was interrupted: pull it again to continue."
            error = {"code": "interrupted", "message": message}
            return replace(state, status="failed", finished_at=path.stat().st_mtime, error=error)
        return state

    def _write(self, state: Pull) -> None:
        write_atomically(self._path(state.name, "json"), json.dumps(asdict(state)))

    def _path(self, name: str, kind: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.{kind}"

    @property
    def _folder(self) -> Path:
        return self._models / ".pulls"


def _cancelled(state: Pull) -> Pull:
    over = replace(state, status="cancelled", stage="cancelled", finished_at=time.time())
    return replace(over, done_bytes=None, total_bytes=None, error=None)


@contextlib.contextmanager
def _ended_at(path: Path | None, process: "subprocess.Popen[str]") -> Iterator[threading.Event]:
    """During the block have the guarded process end when there is a file at ``path``: then it is set."""
    cancelled, over = threading.Event(), threading.Event()

    def watch(path: Path) -> None:
        assert process.stdin is not None
        # A file that another process makes cannot be waited for as an event.
        while not over.wait(_LOOK_SECONDS / 2):
            if path.exists():
                cancelled.set()
                process.stdin.close()
                return

    watcher = None if path is None else threading.Thread(target=watch, args=(path,), daemon=True)
    if watcher is not None:
        watcher.start()
    try:
        yield cancelled
    finally:
        over.set()
        if watcher is not None:
            watcher.join()
