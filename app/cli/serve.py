"""``policysplit serve``: the whole service on one machine, in the foreground."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli import components
from app.cli.console import err, out
from app.cli.datadir import DataDir
from app.cli.environment import check_tracing, settings_with
from app.cli.errors import CliError
from app.cli.keys import check_exposure
from app.cli.relocation import relocate
from app.cli.schema import migrate_database, without_password
from app.cli.supervisor import Child, Component
from app.core.private import tighten
from app.core.settings import Settings


def serve(
    data_dir: Annotated[
        Path | None, typer.Option(help="Files, models, runs, logs and embedded servers.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address the API listens on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0: any free one.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Jobs to run at a time.")] = None,
) -> None:
    """Run everything on this machine: Redis, migrations, API, worker and inference.

    DATABASE_URL and BROKER_URL, where set, are used instead of the embedded SQLite and Redis.
    """
    settings = settings_with(data_dir=data_dir, host=host, port=port, worker_slots=slots)
    check_tracing()
    directory = DataDir(settings.data_dir)
    directory.create()
    if changed := tighten(directory.path):
        _line("data", f"[yellow]{changed} files and folders were open to other users[/] and are now closed")
    with directory.locked() as lock:
        if settings.port == 0:
            settings = settings_with(port=components.free_port(settings.host))
        components.check_port_free(settings.host, settings.port)
        asyncio.run(Service(settings, directory, lock).run())


class Service:
    """Starts the components in order, keeps them up, and stops them in the reverse order."""

    def __init__(self, settings: Settings, directory: DataDir, lock: int):
        self._settings = settings
        self._directory = directory
        self._lock = lock
        self._children: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._asked_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM; raises CliError when a component does not come up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        try:
            if await self._unless_stopped(self._start()):
                await self._asked_to_stop.wait()
        finally:
            await self._stop()

    async def _start(self) -> None:
        settings = self._settings
        _line("data", f"{self._directory.path}  [dim]logs in {self._directory.logs}[/]")
        if settings.broker_url:
            await self._check_broker()
        else:
            self._directory.check_socket_path(settings.redis_socket)
            await self._bring_up(components.redis_component(self._directory.redis, settings))
        await self._migrate()
        if not settings.database_url and (original := relocate(self._directory.path)):
            _line("data", f"was moved from {original}: its jobs and checkpoints now refer to the files here")
        await self._check_keys()
        await self._bring_up(components.api_component(settings))
        await asyncio.gather(
            self._bring_up(components.worker_component(settings)),
            self._bring_up(components.inference_component()),
        )
        url = f"{components.api_url(settings)}/v1"
        self._directory.write_address(url)
        _line("ready", f"[bold]{url}[/]  [dim]Ctrl-C stops[/]")

    async def _bring_up(self, component: Component) -> None:
        child = Child(component, self._directory.log(component.name), self._lock, _line)
        self._children.append(child)
        await child.start()
        self._keepers += [
            asyncio.create_task(child.keep_alive()),
            asyncio.create_task(child.echo_errors(_echo)),
        ]

    async def _check_broker(self) -> None:
        from app.core.queue import broker_alive

        if not await asyncio.to_thread(broker_alive):
            raise CliError(
                f"the broker at BROKER_URL ({without_password(self._settings.broker_url)}) does not answer"
            )
        _line("redis", f"[green]up[/]  {without_password(self._settings.broker_url)}  [dim]yours[/]")

    async def _migrate(self) -> None:
        url = self._settings.resolved_database_url
        await asyncio.to_thread(migrate_database, url)
        _line("database", f"[green]up[/]  {without_password(url)}")

    async def _check_keys(self) -> None:
        if await asyncio.to_thread(check_exposure, self._settings):
            _line("keys", "[green]needed[/]  [dim]`policysplit keys list` shows them[/]")
        else:
            _line(
                "keys", "none: it only listens on this machine  [dim]`policysplit keys create` makes one[/]"
            )

    async def _unless_stopped(self, work: Coroutine[object, object, None]) -> bool:
        """Run ``work``; False when a signal came first."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._asked_to_stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    def _on_signal(self) -> None:
        if self._asked_to_stop.is_set():
            for child in self._children:
                child.hurry()
            return
        self._asked_to_stop.set()
        _line("stopping", "[dim]running jobs save first; a second Ctrl-C kills them[/]")

    async def _stop(self) -> None:
        """The API first, so that nothing new comes in; the broker last, because the worker still needs it."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for names in (("api",), ("worker", "inference"), ("redis",)):
            stopping = [child for child in self._children if child.component.name in names]
            await asyncio.gather(*(child.stop() for child in stopping))
        _line("stopped", "[dim]everything is on disk; the same command resumes from here[/]")


def _line(name: str, text: str) -> None:
    out.print(f"[cyan]{name:<10}[/] {text}", soft_wrap=True)


def _echo(name: str, line: str) -> None:
    err.print(f"[cyan]{name:<10}[/] [red]{escape(line)}[/]", soft_wrap=True)
