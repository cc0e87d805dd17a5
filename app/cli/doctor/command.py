"""The command: all checks, one after the other, for people or programs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.console import out
from app.cli.doctor.finding import Checks, Finding, failed
from app.cli.environment import settings_with
from app.cli.errors import CliError
from app.cli.listing import JsonOption, say_json

_MARKS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failed": "[red]failed[/]"}


def doctor(
    as_json: JsonOption = False,
    data_dir: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
) -> None:
    """Check this host with its settings, and say what is wrong and what to do.

    Database, schema, broker, store, data directory, GPUs, sandbox, clocks, and the workers that are connected
    with their versions. The exit code is 1 if a check failed; warnings alone leave it at 0.
    """
    findings = examine(data_dir)
    whole = "failed" if any(one.status == "failed" for one in findings) else "ok"
    if as_json:
        say_json({"status": whole, "checks": [asdict(one) for one in findings]})
    else:
        width = max(len(one.check) for one in findings)
        for one in findings:
            mark = _MARKS[one.status] + " " * (7 - len(one.status))
            out.print(f"{mark}  {one.check:<{width}}  {escape(one.found)}", soft_wrap=True)
            if one.do:
                out.print(f"{'':<{width + 9}}  [bold]do:[/] {escape(one.do)}", soft_wrap=True)
    if whole == "failed":
        raise typer.Exit(1)


def examine(data_dir: Path | None = None) -> list[Finding]:
    """What all checks come to, in their order."""
    try:
        settings_with(data_dir=data_dir)
    except CliError as error:
        # Without settings there is nothing else to look at.
        return [
            failed("settings", str(error), "correct that variable: `policysplit settings` lists them all")
        ]
    return [finding for check in _checks() for finding in check()]


def _checks() -> tuple[Checks, ...]:
    # Here rather than at the top: no other command waits for what they import.
    from app.cli.doctor import clocks, connected, host, shared

    return (
        *(shared.database, shared.broker, shared.store),
        *(host.data_directory, host.gpus, host.sandbox),
        *(clocks.clocks, connected.workers),
    )
