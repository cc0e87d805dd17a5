"""Components of ``serve`` as child processes: started, watched until ready, restarted, stopped."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.cli.errors import CliError
from trainer.system.guarded import command_of, guard_command

READY_POLL_SECONDS = 0.1
LOG_POLL_SECONDS = 0.5
FIRST_BACK_OFF_SECONDS = 1.0
LAST_BACK_OFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
LOG_ROTATE_BYTES = 20 << 20
ERROR_LINE = re.compile(r"\b(ERROR|CRITICAL)\b")


@dataclass(frozen=True)
class Component:
    """One process of the service.

    ``where`` says in a few words where it can be reached, or returns None (or raises) until it is ready.
    """

    name: str
    command: list[str]
    where: Callable[[], Awaitable[str | None]]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_seconds: float = 60.0
    stop_seconds: float = 10.0


class ComponentFailed(CliError):
    """A component did not come up."""


class Child:
    """A component's process over its lives."""

    def __init__(self, component: Component, log: Path, lock: int, report: Callable[[str, str], None]):
        self.component = component
        self.log = log
        self._lock = lock
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0
        self._stopping = False

    async def start(self) -> None:
        """Start and wait until ready; raises ComponentFailed when it ends or takes too long."""
        await self._spawn()
        await self._wait_ready()

    async def keep_alive(self) -> None:
        """Restart the process whenever it ends, waiting longer each time; returns once it is stopped."""
        loop = asyncio.get_running_loop()
        delay = FIRST_BACK_OFF_SECONDS
        while self._process is not None:
            began = loop.time()
            code = await self._process.wait()
            if self._stopping:
                return
            if loop.time() - began > STEADY_SECONDS:
                delay = FIRST_BACK_OFF_SECONDS
            self._report(
                self.component.name, f"[red]ended with status {code}[/]; restarting in {delay:.0f} s"
            )
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_BACK_OFF_SECONDS)
            try:
                await self.start()
            except ComponentFailed as error:
                self._report(self.component.name, f"[red]{error}[/]")
                self._order(b"kill\n")

    async def stop(self) -> None:
        """End the process and everything below it; the guard enforces the time limit."""
        self._stopping = True
        self._order(b"stop\n")
        if self._process is not None:
            await self._process.wait()

    def hurry(self) -> None:
        """Kill instead of waiting."""
        self._stopping = True
        self._order(b"kill\n")

    async def echo_errors(self, echo: Callable[[str, str], None]) -> None:
        """Follow the log file and pass on the lines that report an error."""
        position = self.log.stat().st_size if self.log.exists() else 0
        while True:
            await asyncio.sleep(LOG_POLL_SECONDS)
            with self.log.open("rb") as file:
                if self.log.stat().st_size < position:  # rotated
                    position = 0
                file.seek(position)
                while (line := file.readline()).endswith(b"\n"):
                    position += len(line)
                    text = line.decode(errors="replace").rstrip()
                    if ERROR_LINE.search(text):
                        echo(self.component.name, text)

    async def _spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_ROTATE_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *guard_command(self.component.command, self.component.stop_seconds),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(self.component.environment),
                start_new_session=True,
                pass_fds=(self._lock,),
            )

    async def _wait_ready(self) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.component.ready_seconds
        while loop.time() < deadline:
            if self._process.returncode is not None:
                raise ComponentFailed(
                    f"{self.component.name} ended with status {self._process.returncode} before it was ready"
                    f"{self._log_tail()}"
                )
            where = None
            with contextlib.suppress(Exception):  # not ready has many faces: refused, loading, no row yet
                where = await asyncio.wait_for(self.component.where(), 2.0)
            if where is not None:
                self._report(self.component.name, f"[green]up[/]  {where}  [dim]pid {self._pid()}[/]")
                return
            await asyncio.sleep(READY_POLL_SECONDS)
        raise ComponentFailed(
            f"{self.component.name} was not ready within {self.component.ready_seconds:.0f} s"
            f"{self._log_tail()}"
        )

    def _pid(self) -> int:
        """The component's own process, below its guard."""
        assert self._process is not None
        return command_of(self._process.pid) or self._process.pid

    def _order(self, order: bytes) -> None:
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(order)

    def _log_tail(self, lines: int = 15) -> str:
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(self._log_start)
            tail = file.read().decode(errors="replace").strip().splitlines()[-lines:]
            return f". Last lines of {self.log}:\n" + "\n".join(f"  {line}" for line in tail)
        return f"; see {self.log}"
