"""The command ``policysplit``."""

import importlib.metadata
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from app.cli import evals, experiments, files, jobs, keys, models, parts, store, workers
from app.cli.backup import backup, restore
from app.cli.chat import chat
from app.cli.console import say_error
from app.cli.demo.command import demo
from app.cli.doctor.command import doctor
from app.cli.errors import CliError
from app.cli.overview import status
from app.cli.serve import serve
from app.cli.settings import settings
from app.core.private import keep_private

app = typer.Typer(
    name="policysplit",
    help="Reinforcement fine-tuning that trains two modes into one set of weights and serves both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(status)
app.command()(doctor)
app.command()(demo)
app.command()(chat)
app.command()(serve)
app.command()(parts.api)
app.command()(parts.worker)
app.command()(parts.inference)
app.command()(parts.migrate)
app.command()(settings)
app.command()(backup)
app.command()(restore)
app.add_typer(jobs.app, name="jobs")
app.add_typer(experiments.app, name="experiments")
app.add_typer(evals.app, name="evals")
app.add_typer(files.app, name="files")
app.add_typer(files.datasets_app, name="datasets")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(keys.projects_app, name="projects")
app.add_typer(workers.app, name="workers")
app.add_typer(store.app, name="store")


def _say_version(asked: bool) -> None:
    if asked:
        print(importlib.metadata.version("policysplit"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reinforcement fine-tuning that trains two modes into one set of weights and serves both."""


def main() -> None:
    """Entry point: errors are one sentence, never a trace."""
    keep_private()
    # As with Ctrl-C: what a command started is cleaned up on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="policysplit")
    except KeyboardInterrupt:
        sys.exit(130)
    except CliError as error:
        say_error(str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # a folder that is missing, a file that may not be written
        if error.filename is None:
            raise
        say_error(f"{error.filename}: {error.strerror}")
        sys.exit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
