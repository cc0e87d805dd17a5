"""``policysplit store``: the artefact store that hosts share."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import err
from app.cli.environment import settings_to_act_on
from app.cli.errors import CliError
from app.cli.listing import JsonOption, say_done
from app.core.errors import ApiError

app = typer.Typer(help="The artefact store that hosts share (POLICYSPLIT_STORE).", no_args_is_help=True)
DataDirOption = Annotated[Path | None, typer.Option(help="The data directory.")]


@app.command()
def migrate(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Copy a data directory's files, checkpoints, archives, states and base models to the store.

    Rows refer to the store once their files are there. It can be interrupted and run again. Nothing is
    removed here; stop workers first, as what they write meanwhile stays on their disks.
    """
    from app.storage.moving import move

    settings = settings_to_act_on(data_dir)
    if not settings.store:
        raise CliError("POLICYSPLIT_STORE is not set: give s3://BUCKET/PREFIX or another store's address")
    try:
        moved = move(lambda what: err.print(f"[dim]{what}[/]", soft_wrap=True, highlight=False))
    except ApiError as error:
        raise CliError(f"{error.message} What has been uploaded stays: run the command again.") from error
    for name in moved.missing:
        err.print(f"{name} has no files here: run this on the host that has them", soft_wrap=True)
    counts = {
        "files": moved.files,
        "checkpoints": moved.checkpoints,
        "rollout_archives": moved.rollout_archives,
        "states": moved.states,
    }
    say_done(
        {"store": settings.store, **counts, "models": moved.models, "missing": moved.missing},
        as_json,
        f"In {settings.store}: {moved.files} files, {moved.checkpoints} checkpoints, "
        f"{moved.rollout_archives} archives of rollouts, {moved.states} states and {moved.models} base "
        "models of this host.",
    )


@app.command()
def check(as_json: JsonOption = False) -> None:
    """Check that the store can be reached and accepts the credentials."""
    from app.core.settings import get_settings
    from app.core.store.errors import StoreError
    from app.core.store.remote import QUICK, remote

    store = remote(patience=QUICK)
    if store is None:
        raise CliError("POLICYSPLIT_STORE is not set: everything is in the data directory")
    try:
        store.check()
    except StoreError as error:
        raise CliError(error.message) from error
    url = get_settings().store
    say_done({"store": url, "status": "ok"}, as_json, f"{url} answers.")
