"""One engine server as a child process: start, wait until it answers, watch for its end, stop."""

import asyncio
import contextlib
import os
import re
import socket
import sys
import time

import aiohttp

from worker.inference import warden
from worker.inference.engines import Engine, Host
from worker.inference.errors import EngineUnavailable

GRACE_SECONDS = 3.0
_HEALTH_INTERVAL = 0.1
_LOG_CHARACTERS = 16_384
_EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .+$", re.MULTILINE)
#: Settings and secrets of the service; an engine has no use for them.
_PRIVATE = ("POLICYSPLIT_", "DATABASE_URL", "BROKER_URL")


class EngineProcess:
    """An engine's process (under its warden) and the last of what it printed."""

    def __init__(self, engine: Engine, port: int, process: asyncio.subprocess.Process):
        self.engine = engine
        self.base_url = f"http://127.0.0.1:{port}"
        self.pid = process.pid
        self.ended = asyncio.Event()
        self._process = process
        self._log = ""
        self._printed = 0
        self._watcher = asyncio.create_task(self._watch())

    @classmethod
    async def spawn(cls, engine: Engine, host: Host) -> "EngineProcess":
        """Start the engine on ``host``; it is not ready yet."""
        port = _free_port()
        launch = engine.launch(host, port)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
        # Threads of an OpenMP team that wait for one another sleep instead of spinning: beside another
        # busy process, spinning made a small model on two cores sixty times slower.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", warden.__file__, str(GRACE_SECONDS)),
            *launch.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=launch.cwd,
            env={"OMP_WAIT_POLICY": "PASSIVE", **environment, **launch.environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        return cls(engine, port, process)

    async def wait_until_ready(self, client: aiohttp.ClientSession, timeout: float) -> None:
        """Return when the health check passes. Raises EngineUnavailable if it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.ended.is_set():
                raise EngineUnavailable(
                    f"the {self.engine.name} server ended while it loaded the model: {self.cause()}"
                )
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                url = self.base_url + self.engine.health_path
                async with client.get(url, timeout=aiohttp.ClientTimeout(2.0)) as answer:
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
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
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
        return f"signal {code - 128}" if code > 128 else f"exit code {code}"

    async def _watch(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(8192):
            text = chunk.decode(errors="replace")
            self._printed += len(text)
            self._log = (self._log + text)[-_LOG_CHARACTERS:]
        await self._process.wait()
        self.ended.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
