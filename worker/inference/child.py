"""One engine server as a child process: start, wait until it answers, watch for its end, stop.

It listens on a Unix socket in a folder that only this user can enter: engines ask for no key, or not on every
route, and a port of the loopback interface is open to everybody on the machine.
"""

import asyncio
import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from app.core.settings import get_settings
from trainer.system.environment import inherited
from trainer.system.guard import end_orphans
from trainer.system.guarded import guard_command, kill_guard
from worker.inference.engines import Engine, Host
from worker.inference.errors import EngineUnavailable

GRACE_SECONDS = 3.0
#: Below the time after which engines close a connection that is idle.
KEEPALIVE_SECONDS = 3.0
_HEALTH_INTERVAL = 0.1
#: How soon an end is noticed though somebody holds the engine's output.
_WATCH_SECONDS = 1.0
_LOG_CHARACTERS = 16_384
_EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", re.MULTILINE)


class EngineProcess:
    """An engine's process (under its guard), the way to ask it, and the last of what it printed."""

    def __init__(self, engine: Engine, socket: Path, process: asyncio.subprocess.Process):
        self.engine = engine
        self.socket = socket
        connector = aiohttp.UnixConnector(str(socket), limit=0, keepalive_timeout=KEEPALIVE_SECONDS)
        self.client = aiohttp.ClientSession("http://engine", connector=connector, trust_env=False)
        self.pid = process.pid
        self.ended = asyncio.Event()
        self._process = process
        self._log = ""
        self._printed = 0
        self._watcher = asyncio.create_task(self._watch())

    @classmethod
    async def spawn(
        cls, engine: Engine, host: Host, gpus: Mapping[str, str] | None = None
    ) -> "EngineProcess":
        """Start the engine on ``host``; it is not ready yet. ``gpus``: variables that name those it sees."""
        # By itself as short as the kernel wants it, and open to this user alone.
        socket = Path(tempfile.mkdtemp(prefix="policysplit-engine-")) / "http"
        launch = engine.launch(host, socket)
        # Threads of an OpenMP team that wait for one another sleep instead of spinning: beside another
        # busy process, spinning made a small model on two cores sixty times slower.
        process = await asyncio.create_subprocess_exec(
            *guard_command(launch.command, GRACE_SECONDS),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=launch.cwd,
            env={
                "OMP_WAIT_POLICY": "PASSIVE",
                **inherited(get_settings().engine_environment),
                **launch.environment,
                **(gpus or {}),
                "PYTHONUNBUFFERED": "1",
            },
            start_new_session=True,
        )
        return cls(engine, socket, process)

    async def wait_until_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """Return when the health check passes. Raises EngineUnavailable if it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.ended.is_set():
                raise EngineUnavailable(
                    f"the {self.engine.name} server ended while loading the model: {self.cause()}"
                )
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                path, limit = self.engine.health_path, aiohttp.ClientTimeout(2.0)
                async with self.client.get(path, timeout=limit) as answer:
                    if answer.status == 200:
                        return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), _HEALTH_INTERVAL)
        raise EngineUnavailable(f"the {self.engine.name} server did not load the model within {timeout:g} s")

    async def stop(self) -> None:
        """End the engine and everything it started; returns when it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self.ended.wait(), GRACE_SECONDS + 5)
        except TimeoutError:
            await asyncio.to_thread(kill_guard, self.pid)
        await self._watcher

    def mark(self) -> int:
        """A position in what the engine prints, for :meth:`printed_since`."""
        return self._printed

    def printed_since(self, mark: int) -> str:
        """What the engine printed since ``mark``, as far as it is kept."""
        count = self._printed - mark
        return self._log[-count:] if count else ""

    def cause(self) -> str:
        """Why the engine ended, as far as it said: its last exception, else its exit code."""
        if exceptions := _EXCEPTION.findall(self._log):
            return exceptions[-1][:500]
        code = self._process.returncode
        if code is None:
            return "it said nothing"
        number = -code if code < 0 else code - 128
        return f"signal {number}" if number > 0 else f"exit code {code}"

    async def _watch(self) -> None:
        reading = asyncio.create_task(self._read())
        while not (await asyncio.wait({reading}, timeout=_WATCH_SECONDS))[0]:
            if self._process.returncode is not None:
                # Killed in one instant with its guard: what it has started lives, and holds the pipe.
                await asyncio.to_thread(end_orphans)
                await asyncio.wait({reading}, timeout=_WATCH_SECONDS)
                reading.cancel()
                break
        await self._process.wait()
        self.ended.set()
        await self.client.close()
        shutil.rmtree(self.socket.parent, ignore_errors=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(8192):
            text = chunk.decode(errors="replace")
            self._printed += len(text)
            self._log = (self._log + text)[-_LOG_CHARACTERS:]
