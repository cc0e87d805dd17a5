"""Command-line options become settings through the environment, for this process and its children."""

import os
import sys
from pathlib import Path

from pydantic import ValidationError
from rich.markup import escape

from app.cli.console import err
from app.cli.datadir import DataDir
from app.cli.errors import CliError
from app.core import tracing
from app.core.settings import Settings, get_settings


def settings_with(**options: object) -> Settings:
    """Put the options that were given into the environment and read the settings again.

    Children inherit the environment, so that every process of a service has the same settings. Raises
    CliError that names the setting at fault.
    """
    for name, value in options.items():
        if value is not None:
            os.environ[f"POLICYSPLIT_{name.upper()}"] = str(value)
    data_dir = os.environ.get("POLICYSPLIT_DATA_DIR")
    if data_dir:
        os.environ["POLICYSPLIT_DATA_DIR"] = str(Path(data_dir).expanduser().resolve())
    get_settings.cache_clear()
    try:
        return get_settings()
    except ValidationError as error:
        problems = "; ".join(
            f"POLICYSPLIT_{str(found['loc'][0]).upper()}={found['input']!r}: {found['msg']}"
            for found in error.errors()
        )
        raise CliError(f"invalid settings: {problems}") from error


def settings_to_act_on(data_dir: Path | None, *, database_alone: bool = False) -> Settings:
    """Settings for a command that acts on a data directory, which it names on standard error.

    Raises CliError where nobody named the directory and no service uses it, but one uses another: what was
    meant is then most likely that one. ``database_alone``: the command touches the database only, which may
    be elsewhere.
    """
    named = data_dir is not None or "POLICYSPLIT_DATA_DIR" in os.environ
    settings = settings_with(data_dir=data_dir)
    if database_alone and settings.database_url:
        return settings
    directory = DataDir(settings.data_dir)
    url = directory.address()
    if not named and url is None and (elsewhere := directory.served_elsewhere()):
        running = " and ".join(f"{path} ({address})" for path, address in elsewhere.items())
        raise CliError(
            f"no service is running on the data directory {directory.path}, but one is on {running}: give "
            f"--data-dir {next(iter(elsewhere))}, or --data-dir {directory.path} if you mean this one"
        )
    err.print(f"[dim]Data directory: {escape(str(directory.path))}[/]", soft_wrap=True)
    return settings


def check_tracing() -> None:
    """Raise CliError where traces are wanted and cannot be made: before anything is started."""
    try:
        tracing.check()
    except tracing.TracingMissing as error:
        raise CliError(str(error)) from error


def python_command(*arguments: str) -> list[str]:
    """A command that runs with this interpreter and imports nothing from the folder that it runs in."""
    return [sys.executable, "-P", *arguments]
