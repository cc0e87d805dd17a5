"""The command ``policysplit``."""

import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from app.cli import experiments, jobs, keys, models, parts
from app.cli.backup import backup, restore
from app.cli.chat import chat
from app.cli.console import say_error
from app.cli.demo.command import demo
from app.cli.errors import CliError
from app.cli.serve import serve
from app.cli.settings import settings

app = typer.Typer(
    name="policysplit",
    help="Reinforcement fine-tuning that trains two modes into one set of weights, and serves both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(keys.projects_app, name="projects")


def main() -> None:
    """Entry point: errors are one sentence, never a trace."""
    # As with Ctrl-C: what a command started is cleaned up on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except CliError as error:
        say_error(str(error))
        sys.exit(error.exit_code)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
