"""The data directory: one ``serve`` at a time, where the logs are, and the address of the running service."""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.cli.errors import CliError
from trainer.system.files import write_atomically

# The components of a serve that was killed hold the lock until they have ended: at most this long.
INHERITED_LOCK_SECONDS = 180.0
SOCKET_PATH_LIMIT = 107


class DataDir:
    """Paths below one data directory."""

    def __init__(self, path: Path):
        self.path = path.expanduser().resolve()
        self.logs = self.path / "logs"
        self.redis = self.path / "redis"
        self.lock_file = self.path / "serve.lock"
        self.address_file = self.path / "serve.json"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def create(self) -> None:
        """Make the folders; raises CliError where that is not allowed."""
        try:
            for folder in (self.path, self.logs, self.redis):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CliError(f"cannot use {self.path} as the data directory: {error.strerror}") from error

    def check_socket_path(self, socket: Path) -> None:
        """The kernel limits the path of a Unix socket."""
        if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
            raise CliError(
                f"the path of the embedded Redis socket, {socket}, is longer than the {SOCKET_PATH_LIMIT} "
                "bytes that the system allows: choose a shorter --data-dir, or set BROKER_URL to your own "
                "Redis"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the directory; yields the lock's descriptor, for components to inherit.

        The lock belongs to the open file, so it is held until this process and every component that
        inherited it have ended, and the kernel releases it however they end.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            try:
                yield descriptor
            finally:
                self.address_file.unlink(missing_ok=True)
                if (folder := _services()) is not None:
                    (folder / self._service_name).unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + INHERITED_LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                if _is_running(holder):
                    at = f" at {url}" if (url := self.address()) else ""
                    raise CliError(
                        f"{self.path} is already in use by process {holder}{at}: stop that first, or "
                        "choose another --data-dir"
                    ) from None
                if time.monotonic() > deadline:
                    raise CliError(
                        f"{self.path} is still in use by components of an earlier serve (process "
                        f"{holder}) that was killed: end them, then try again"
                    ) from None
                # The killed serve's components are stopping; a lock cannot be waited for with a limit.
                time.sleep(0.1)

    def write_address(self, url: str) -> None:
        """Record where the running service answers, for the client commands, and that it runs, for others."""
        told = {"pid": os.getpid(), "url": url, "data_dir": str(self.path)}
        write_atomically(self.address_file, json.dumps(told))
        if (folder := _services()) is not None:
            write_atomically(folder / self._service_name, json.dumps(told))

    def address(self) -> str | None:
        """Where the service of this directory answers, if it is running."""
        found = _running_service(self.address_file)
        return None if found is None else found["url"]

    def served_elsewhere(self) -> dict[str, str]:
        """By their data directories, where this user's other services on this machine answer."""
        folder = _services()
        files = [] if folder is None else folder.glob("*.json")
        found = [one for file in files if (one := _running_service(file)) is not None]
        return {one["data_dir"]: one["url"] for one in found if one["data_dir"] != str(self.path)}

    @property
    def _service_name(self) -> str:
        return f"{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}.json"


def _services() -> Path | None:
    """The folder in which this user's services say that they run; None where another user has it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = (
        Path(base) / "policysplit" if base else Path(tempfile.gettempdir()) / f"policysplit-{os.getuid()}"
    )
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() else None


def _running_service(file: Path) -> dict[str, str] | None:
    """What a running service has written of itself."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if _is_running(str(found["pid"])) else None


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
