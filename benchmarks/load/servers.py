"""The servers under load: ours on a given database, and a FastAPI that does nothing."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from fastapi import FastAPI

from app.cli.components import api_command
from app.core.settings import Settings


def bare_app() -> FastAPI:
    """The route that ours is compared with."""
    app = FastAPI()

    @app.get("/bare/{name}")
    async def bare(name: str) -> dict[str, str]:
        return {"name": name}

    return app


@contextlib.contextmanager
def running(command: list[str], url: str, environment: dict[str, str]) -> Iterator[int]:
    """A server as a process during the block, from when it answers at ``url``; its process id."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            # A port that nobody listens on yet cannot be waited for with an event.
            with contextlib.suppress(httpx.TransportError):
                httpx.get(url)
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} does not answer at {url}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def our_api(folder: Path, database_url: str) -> Iterator[tuple[str, int]]:
    """The API as ``policysplit api`` runs it; its URL and process id."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "POLICYSPLIT_DATA_DIR": str(folder),
        "POLICYSPLIT_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    command = api_command(Settings(host="127.0.0.1", port=port))
    with running(command, f"{url}/healthz", environment) as pid:
        yield url, pid


@contextlib.contextmanager
def bare_server() -> Iterator[str]:
    """The bare route on the same server, with the same options; its URL."""
    port = free_port()
    command = api_command(Settings(host="127.0.0.1", port=port))
    command = [
        "benchmarks.load.servers:bare_app" if part == "app.main:served_app" else part for part in command
    ]
    url = f"http://127.0.0.1:{port}/bare/x"
    with running(command, url, dict(os.environ)):
        yield url


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
