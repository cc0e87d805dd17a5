"""``policysplit files`` and ``policysplit datasets``: what is uploaded, and what would be refused."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli.client import BaseUrlOption, DataDirOption, api_errors, connect
from app.cli.console import out
from app.cli.errors import CliError
from app.cli.listing import JsonOption, say_done, say_json, say_table, size, when
from app.core.errors import BadRequest
from app.core.settings import get_settings
from app.files.jsonl import check_training_file

app = typer.Typer(help="Uploaded files.", no_args_is_help=True)
datasets_app = typer.Typer(help="Training data, before it is uploaded.", no_args_is_help=True)
FileId = Annotated[str, typer.Argument(help="file-…")]


@app.command("list")
def list_files(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the newest files."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        page = client.files.list(limit=limit)
    if as_json:
        say_json([file.to_dict() for file in page.data])
    elif not page.data:
        out.print("There are no files yet: policysplit files upload FILE")
    else:
        rows = [
            (
                file.id,
                escape(file.filename),
                size(file.bytes),
                str((file.model_extra or {}).get("rows") or ""),
                file.purpose,
                when(file.created_at),
            )
            for file in page.data
        ]
        say_table(("file", "name", "size", "rows", "purpose", "uploaded"), rows)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="A JSONL file.")],
    for_evals: Annotated[
        bool, typer.Option("--evals", help="Its lines are items for evals, not training rows.")
    ] = False,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Upload a file, checking each line."""
    client = connect(base_url, data_dir)
    with api_errors(client), file.open("rb") as content:
        made = client.files.create(file=content, purpose="evals" if for_evals else "fine-tune")
    say_done(made.to_dict(), as_json, f"Uploaded {escape(str(file))} as [bold]{made.id}[/].")


@app.command()
def download(
    file_id: FileId,
    to: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Save a file's content to disk."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        content = client.files.content(file_id).read()
    with to.open("xb") as target:
        target.write(content)
    wrote = {"id": file_id, "file": to, "bytes": len(content)}
    say_done(wrote, as_json, f"Wrote {escape(str(to))}, {size(len(content))}.")


@app.command()
def delete(
    file_id: FileId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Remove a file that no unfinished job uses."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        gone = client.files.delete(file_id)
    say_done(gone.to_dict(), as_json, f"{gone.id} is gone.")


@datasets_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A JSONL file.")],
    as_json: JsonOption = False,
) -> None:
    """Check a file as an upload would, without a service: show the first bad line, or the rows and fields."""
    if not file.is_file():
        raise CliError(f"{file} is not a file")
    try:
        found = check_training_file(file, get_settings().max_line_bytes)
    except BadRequest as error:
        raise CliError(f"{file}: {error.message}") from error
    if as_json:
        say_json({"rows": found.count, "fields": found.fields})
        return
    out.print(f"[green]Fine:[/] {found.count} rows in {escape(str(file))}.", soft_wrap=True)
    rows = [
        (
            "{{item." + escape(name) + "}}",
            str(seen["count"]),
            "" if seen["first_missing"] is None else f"line {seen['first_missing']} has none",
        )
        for name, seen in found.fields.items()
    ]
    if rows:
        say_table(("field, for graders", "rows", ""), rows)
