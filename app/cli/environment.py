"""Command-line options become settings through the environment, for this process and its children."""

import os
import sys
from pathlib import Path

from pydantic import ValidationError

from app.cli.errors import CliError
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
        raise CliError(f"a setting cannot be used: {problems}") from error


def python_command(*arguments: str) -> list[str]:
    """A command that runs with this interpreter and imports nothing from the folder that it runs in."""
    return [sys.executable, "-P", *arguments]
