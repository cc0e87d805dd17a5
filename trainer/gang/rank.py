"""What runs on a host for one rank: an actor of Ray's that supervises ``python -m trainer`` under its guard.

The trainer is a child of the actor and not a function in it: it has signals, a process guard, exit codes and
the end of a lost rank (``os._exit``) of its own, and its engines and sandboxes are in sessions of theirs,
which Ray does not end when it kills an actor. The guard does: the actor's death is the end of its pipe.

Imported by Ray on each host, whose own code it is; nothing here needs torch.
"""

import hashlib
import importlib.util
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from trainer.distributed.same_code import versions
from trainer.system.environment import inherited
from trainer.system.guard import catches
from trainer.system.guarded import Guarded

#: Of a file, how much is compared at either end.
SAMPLED_BYTES = 1 << 16
#: Lines of output that wait for the driver; a trainer that prints faster waits.
QUEUED_LINES = 10_000
ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class Facts:
    """What a host is compared by. A path's is None where it is not there."""

    versions: dict[str, str]
    trains: bool
    time: float
    shared: bool
    paths: dict[str, str | None]


class RankHost:
    """One rank's actor. Its methods are called from several threads."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUED_LINES)
        self._trainer: Guarded | None = None
        self._over = False
        """Whether it has printed its last line."""

    def examine(self, token: Path, paths: list[str]) -> Facts:
        """What this host has; ``token`` is a file that the driver has written into the run directory."""
        return facts(token, paths)

    def address(self) -> tuple[str, int]:
        """Where ranks meet: of this host, a port that is free."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.create_server((host, 0)) as free:
            return host, free.getsockname()[1]

    def gpus(self) -> str:
        """Those that Ray gave this rank, as CUDA names them."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        """Start the trainer; ``command`` may be arguments alone, of this host's Python. Raises OSError."""
        program = [] if not command[0].startswith("-") else [sys.executable]
        read, write = os.pipe()
        try:
            self._trainer = Guarded(
                [*program, *command], stdout=write, stderr=write, environment=inherited() | environment
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        threading.Thread(target=self._read, args=(read,), name="output", daemon=True).start()

    def follow(self) -> tuple[list[str], int | None]:
        """What it has printed since, waited for a moment; and its exit code once there is no more."""
        assert self._trainer is not None
        lines: list[str] = []
        try:
            while not self._over:
                line = self._lines.get(timeout=0 if lines else ANSWER_SECONDS)
                if line is None:
                    self._over = True
                else:
                    lines.append(line)
        except queue.Empty:
            return lines, None
        return lines, self._trainer.close()

    def stop(self) -> None:
        """Ask for the end, at the next step, with a state to resume from."""
        if self._trainer is not None:
            self._trainer.terminate()

    def dump(self) -> None:
        """Have the trainer write where its threads are, if it has got so far that it can."""
        trainer = self._trainer
        if trainer is not None and trainer.running and catches(trainer.pid, signal.SIGUSR1):
            os.kill(trainer.pid, signal.SIGUSR1)

    def _read(self, descriptor: int) -> None:
        assert self._trainer is not None
        with os.fdopen(descriptor, encoding="utf-8", errors="replace", newline="\n") as output:
            for line in output:
                # Of a progress bar, which is written again and again, as it was at last.
                self._lines.put(line.rstrip("\r\n").rpartition("\r")[2])
        self._lines.put(None)


def facts(token: Path, paths: list[str]) -> Facts:
    """What the host of this process has."""
    return Facts(
        versions=versions(),
        trains=importlib.util.find_spec("torch") is not None,
        time=time.time(),
        shared=token.exists(),
        paths={path: fingerprint(Path(path)) for path in paths},
    )


def fingerprint(path: Path) -> str | None:
    """Of a file or a folder: names, sizes, and both ends of each file. None where there is none."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)}\0{size}\0".encode())
        with file.open("rb") as content:
            digest.update(content.read(SAMPLED_BYTES))
            content.seek(max(0, size - SAMPLED_BYTES))
            digest.update(content.read())
    return digest.hexdigest()
