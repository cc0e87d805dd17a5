"""``policysplit api | worker | inference | migrate``: the parts of the service, each a process of its own."""

import os
import sys
from typing import Annotated

import typer

from app.cli import components
from app.cli.environment import check_tracing, settings_to_act_on, settings_with
from app.cli.keys import check_exposure
from app.cli.listing import JsonOption, say_done
from app.cli.schema import migrate_database, without_password


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
) -> None:
    """Run the HTTP API against DATABASE_URL and BROKER_URL. Does not migrate."""
    settings = settings_with(host=host, port=port)
    check_exposure(settings)
    components.check_port_free(settings.host, settings.port)
    check_tracing()
    _become(components.api_command(settings))


def worker(slots: Annotated[int | None, typer.Option(min=1, help="Jobs to run at a time.")] = None) -> None:
    """Run a job worker against DATABASE_URL and BROKER_URL."""
    settings_with(worker_slots=slots)
    check_tracing()
    _become(components.worker_command())


def inference(
    host: Annotated[
        str | None, typer.Option(help="Address at which the gateway reaches this machine.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = None,
) -> None:
    """Run an inference worker: it serves finished checkpoints to the gateway."""
    settings_with(inference_host=host, inference_port=port)
    check_tracing()
    _become(components.inference_command())


def migrate(as_json: JsonOption = False) -> None:
    """Bring the database at DATABASE_URL up to date."""
    settings = settings_to_act_on(None, database_alone=True)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate_database(settings.resolved_database_url)
    database = without_password(settings.resolved_database_url)
    say_done({"database": database}, as_json, "The database is up to date.")


def _become(command: list[str]) -> None:
    """Replace this process, so that signals reach the part directly."""
    sys.stdout.flush()
    os.execv(command[0], command)
