"""``policysplit models export``: a checkpoint of the data directory as a folder for other programs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.environment import settings_to_act_on
from app.cli.errors import CliError
from app.cli.listing import JsonOption, say_done
from app.core.errors import ApiError
from app.core.tables import DEFAULT_PROJECT


def export(
    model: Annotated[str, typer.Argument(help="Any id of a fine-tuned model: ft:…")],
    to: Annotated[Path, typer.Option(help="The folder to write; it must be empty or not exist.")],
    as_json: JsonOption = False,
    data_dir: Annotated[Path | None, typer.Option(help="The data directory.")] = None,
    project: Annotated[str, typer.Option(help="The model's project.")] = DEFAULT_PROJECT,
) -> None:
    """Write a fine-tuned model and its model card to a folder that transformers, vLLM and llama.cpp load."""
    from app.core.db import read_session
    from app.models.export import export_to, exportable
    from trainer.spec.manifest import IncompleteCheckpoint

    settings_to_act_on(data_dir)
    try:
        with read_session() as session:
            exported = exportable(session, project, model)
        folder = export_to(exported, to.expanduser().resolve())
    except (ApiError, IncompleteCheckpoint, OSError) as error:
        raise CliError(str(error)) from error
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    checkpoint = exported.found.checkpoint
    say_done(
        {"model": checkpoint, "folder": folder, "bytes": size},
        as_json,
        f"[green]Exported[/] {escape(str(checkpoint))} to {escape(str(folder))}, {size / 1e6:,.0f} MB",
    )
