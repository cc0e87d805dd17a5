"""A ``policysplit serve`` of the demo's own, gone when the demo is."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from app.cli.console import out
from app.cli.datadir import DataDir
from app.cli.environment import python_command
from app.cli.errors import CliError
from trainer.system.guarded import guarded

STOP_SECONDS = 60.0
# The demo brings everything itself, whatever the shell is set up for.
NOT_INHERITED = (
    *("DATABASE_URL", "POLICYSPLIT_DATABASE_URL", "BROKER_URL", "POLICYSPLIT_BROKER_URL"),
    *("POLICYSPLIT_DATA_DIR", "POLICYSPLIT_HOST", "POLICYSPLIT_PORT"),
)


@contextlib.contextmanager
def running_service(data_dir: Path) -> Iterator[str]:
    """Serve ``data_dir`` on a free port during the block; yields the base URL. Raises CliError."""
    command = python_command("-m", "app.cli", "serve", "--data-dir", str(data_dir), "--port", "0")
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    with guarded(command, STOP_SECONDS, subprocess.PIPE, subprocess.STDOUT, environment) as process:
        ready = threading.Event()
        said: list[str] = []
        reader = threading.Thread(target=_relay, args=(process, said, ready), daemon=True)
        reader.start()
        ready.wait()
        url = DataDir(data_dir).address()
        if url is None:
            raise CliError(said[-1] if said else "the service did not start")
        yield url
    reader.join()


def _relay(process: "subprocess.Popen[str]", said: list[str], ready: threading.Event) -> None:
    """Print what the service says; ``ready`` is set when it is up, or when it has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        out.print(f"  {line.rstrip()}", style="dim", markup=False, soft_wrap=True)
        if line.startswith("ready"):
            ready.set()
    ready.set()
