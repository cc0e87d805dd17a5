"""Starting a process under its guard (see app.cli.guard)."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from app.cli import guard


def guard_command(command: list[str], stop_seconds: float) -> list[str]:
    """``command`` under its guard: give it a pipe as standard input, and close it to stop."""
    return [sys.executable, "-I", str(Path(guard.__file__)), str(stop_seconds), "--", *command]


@contextlib.contextmanager
def guarded(
    command: list[str],
    stop_seconds: float,
    stdout: int | IO[Any],
    stderr: int | IO[Any],
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """Run ``command`` during the block; afterwards it and everything it started are gone."""
    process = subprocess.Popen(
        guard_command(command, stop_seconds),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
