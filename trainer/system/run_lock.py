"""One trainer at a time in a run directory, the one of the newest attempt (torch-free).

A worker that was frozen or cut off loses its lease, and another one starts the next attempt while the trainer
of the old one may still live. So each attempt leaves its number in ``owner.json`` and then waits for the
directory's lock. Whoever holds the lock looks at that file and ends when a newer attempt has come; one that
cannot look, because it is frozen itself, is killed where the newcomer is on the same machine.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from trainer.errors import RunDirBusy
from trainer.system.files import write_atomically
from trainer.system.guard import descendants, send, start_time

LOCK_NAME, OWNER_NAME = "run.lock", "owner.json"
#: How often the holder looks for a newer attempt.
LOOK_SECONDS = 0.25
#: What a holder that lives has to end by itself, and what it is waited for in all.
FREEZE_SECONDS, PATIENCE_SECONDS = 5.0, 60.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def sole_trainer(run_dir: Path, attempt: int, on_superseded: Callable[[], None]) -> Iterator[None]:
    """Hold ``run_dir`` within the block.

    Args:
        attempt: the newest one wins; of two with the same number the one that is there. 0, by hand: waits.
        on_superseded: called from a thread when a newer attempt has come; is to end this process.

    Raises RunDirBusy when a newer attempt has been there, or when the holder does not end.
    Where the file system has no locks, ``owner.json`` alone has to do.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK_NAME).open("a+b") as lock:
        newest = _newest(run_dir)
        if 0 < attempt < newest:
            raise RunDirBusy(f"attempt {newest} has started in {run_dir}: attempt {attempt} ends")
        if newest < attempt:
            write_atomically(run_dir / OWNER_NAME, json.dumps({"attempt": attempt}))
        _acquire(lock.fileno(), run_dir, attempt)
        pid = os.getpid()
        me = {"pid": pid, "attempt": attempt, "machine": _machine(), "started": start_time(pid)}
        lock.truncate(0)
        lock.write(json.dumps(me).encode())
        lock.flush()
        over = threading.Event()
        watch = threading.Thread(
            target=_watch, args=(run_dir, attempt, over, on_superseded), name="run-lock", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            over.set()


def _acquire(descriptor: int, run_dir: Path, attempt: int) -> None:
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            if not isinstance(error, BlockingIOError):
                raise
        waited = time.monotonic() - began
        if 0 < attempt < _newest(run_dir):
            raise RunDirBusy(f"a newer attempt than {attempt} has started in {run_dir}")
        if waited > PATIENCE_SECONDS:
            raise RunDirBusy(f"another trainer is using {run_dir}: {_read(run_dir / LOCK_NAME)}")
        if waited > FREEZE_SECONDS:
            _kill_older(run_dir, attempt)
        # A lock cannot be waited for with a limit.
        time.sleep(0.05)


def _kill_older(run_dir: Path, attempt: int) -> None:
    """Kill the holder and what it started where that is an older attempt on this machine."""
    holder = _read(run_dir / LOCK_NAME)
    pid = holder.get("pid", 0)
    mine = holder.get("machine") == _machine() and holder.get("started") == start_time(pid)
    # What was started by hand, without a number, is nobody's older attempt.
    if not mine or not 0 < holder.get("attempt", 0) < attempt:
        return
    send([pid, *descendants(pid)], signal.SIGKILL)


def _watch(run_dir: Path, attempt: int, over: threading.Event, on_superseded: Callable[[], None]) -> None:
    while attempt and not over.wait(LOOK_SECONDS):
        if _newest(run_dir) > attempt:
            on_superseded()
            return


def _newest(run_dir: Path) -> int:
    return int(_read(run_dir / OWNER_NAME).get("attempt", 0))


def _machine() -> str:
    """A name of this machine since it was started: process ids mean something within it alone."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + socket.gethostname()
    return socket.gethostname()


class _Holder(TypedDict, total=False):
    """What the lock's file says of whoever holds it."""

    pid: int
    attempt: int
    machine: str
    started: float | None


def _read(path: Path) -> _Holder:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
