"""The components of a service: what to run, and how to see that each is up."""

import asyncio
import os
import socket
import ssl
import time
from pathlib import Path

import httpx
import psutil
from sqlalchemy import select

import app
from app.cli.environment import python_command
from app.cli.errors import CliError
from app.cli.redis_server import find_redis_server, write_config
from app.cli.supervisor import Component
from app.core.db import read_session
from app.core.queue import broker_alive
from app.core.settings import Settings
from app.core.tables import InferenceWorker

# What is asked here is not https, and to read the certificates of all authorities takes 30 ms each time.
_NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def api_url(settings: Settings) -> str:
    """Where clients reach the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def api_command(settings: Settings) -> list[str]:
    """The HTTP API under uvicorn."""
    return python_command(
        # uvicorn looks for the application in the current folder, if it is not told where to.
        *(
            "-m",
            "uvicorn",
            "--app-dir",
            str(Path(app.__file__).parents[1]),
            "--factory",
            "app.main:served_app",
        ),
        *("--host", settings.host, "--port", str(settings.port), "--no-server-header"),
        *("--http", "app.core.http_protocol:BoundedHttp", "--ws", "none"),
        *("--limit-concurrency", str(settings.max_connections)),
        *("--log-config", str(Path(__file__).with_name("api_logging.json"))),
        # Event streams stay open as long as their clients like: a shutdown does not wait for them.
        *("--timeout-graceful-shutdown", "5"),
    )


def worker_command() -> list[str]:
    """The job worker."""
    return python_command("-m", "worker")


def inference_command() -> list[str]:
    """The process that runs the engine servers."""
    return python_command("-m", "worker.inference")


def redis_component(folder: Path, settings: Settings) -> Component:
    """The embedded Redis."""
    config = write_config(folder, settings.redis_socket)

    async def where() -> str | None:
        if not settings.redis_socket.exists():
            return None
        return str(settings.redis_socket) if await asyncio.to_thread(broker_alive) else None

    return Component("redis", [find_redis_server(), str(config)], where, dict(os.environ), ready_seconds=120)


def api_component(settings: Settings) -> Component:
    """The HTTP API."""
    url = api_url(settings)

    async def where() -> str | None:
        return url if await _answers(url) else None

    return Component("api", api_command(settings), where, dict(os.environ))


def worker_component(settings: Settings) -> Component:
    """The job worker; it is up when it has written its process id into the ready file."""
    ready_file = settings.data_dir / "worker.ready"

    async def where() -> str | None:
        pid = int(ready_file.read_text())
        return f"{settings.worker_slots} slot(s)" if psutil.pid_exists(pid) else None

    return Component(
        "worker",
        worker_command(),
        where,
        {**os.environ, "POLICYSPLIT_READY_FILE": str(ready_file)},
        # A running trainer writes a checkpoint before it ends.
        stop_seconds=settings.checkpoint_grace_seconds + 10,
    )


def inference_component() -> Component:
    """The engine supervisor; it is up when it has written its row and answers at the URL in it."""
    since = time.time()

    def newest() -> str | None:
        with read_session() as session:
            row = session.scalars(
                select(InferenceWorker)
                .where(InferenceWorker.started_at >= since - 1)
                .order_by(InferenceWorker.started_at.desc())
            ).first()
            return row.url if row else None

    async def where() -> str | None:
        url = await asyncio.to_thread(newest)
        if url is None:
            return None
        return url if await _answers(url) else None

    return Component("inference", inference_command(), where, dict(os.environ), stop_seconds=20)


async def _answers(url: str) -> bool:
    """Whether a process of ours is ready; asked ten times a second until it is."""
    async with httpx.AsyncClient(verify=_NO_AUTHORITY, trust_env=False) as client:
        return (await client.get(f"{url}/healthz")).status_code == 200


def check_port_free(host: str, port: int) -> None:
    """Raises CliError when nothing can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise CliError(f"--host {host!r} is not an address of this machine: {error.strerror}") from error
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise CliError(
                f"cannot listen on {host}:{port}: {error.strerror}. Choose another with --port (0: any "
                "free one), or stop what is using it"
            ) from error


def free_port(host: str) -> int:
    """A port that is free now."""
    family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.bind(address)
        return probe.getsockname()[1]
