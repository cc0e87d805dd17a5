"""``policysplit keys`` and ``policysplit projects``: for the operator, on the service's database."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from app.cli.console import err, out
from app.cli.environment import settings_to_act_on
from app.cli.errors import CliError, cause_of
from app.cli.listing import JsonOption, say_done, say_json, say_table, when
from app.cli.schema import migrate_database
from app.core.addresses import is_loopback
from app.core.db import close_engine, get_engine
from app.core.settings import Settings
from app.core.tables import DEFAULT_PROJECT
from app.keys import service
from app.keys.repository import Caller
from app.keys.schemas import key_view, project_view

app = typer.Typer(help="The service's keys. The first one ends keyless use.", no_args_is_help=True)
projects_app = typer.Typer(
    help="Projects: each sees only its own files, jobs and models.", no_args_is_help=True
)
#: Whoever is on the machine.
_OPERATOR = Caller(DEFAULT_PROJECT, operator=True)
DataDirOption = Annotated[Path | None, typer.Option(help="The service's data directory.")]


class ScopeName(StrEnum):
    """A scope of ``app.core.scopes``, as an option's choice."""

    READ, TRAIN, INFER, ADMIN = "read", "train", "infer", "admin"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="Id or name of its project.")] = DEFAULT_PROJECT,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Its own rate limit, replacing the setting's.")
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="It may create projects and manage all keys over HTTP.")
    ] = False,
    scope: Annotated[
        list[ScopeName] | None, typer.Option(help="What it may do; may be repeated. Default: everything.")
    ] = None,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Create a key and print it once: only its hash is stored."""
    with _database(data_dir):
        key, secret = service.create_key(name, project, requests_per_minute, operator=operator, scopes=scope)
        (owner,) = service.list_projects(key.project_id)
    if as_json:
        say_json(key_view(key, owner, _OPERATOR, new_secret=secret))
        return
    err.print(f"Made {key.id} for project {key.project_id}. The key is not shown again:", soft_wrap=True)
    print(secret)


@app.command("list")
def list_keys(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Show all keys, without their secrets."""
    with _database(data_dir):
        rows = service.list_keys()
    if as_json:
        say_json([key_view(key, project, _OPERATOR) for key, project in rows])
    elif not rows:
        out.print("There are no keys. Anyone on this machine may use the service, and nobody else.")
    else:
        say_table(
            ("key", "name", "secret", "project", "may", "requests/min", "made", "last used", "revoked"),
            [
                (
                    key.id,
                    escape(key.name) + (" [dim](operator)[/]" if key.operator else ""),
                    key.hint,
                    escape(project.name),
                    "everything" if key.scopes is None else key.scopes,
                    "" if key.requests_per_minute is None else str(key.requests_per_minute),
                    when(key.created_at),
                    when(key.last_used_at),
                    when(key.revoked_at),
                )
                for key, project in rows
            ],
        )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="key_…")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Revoke a key; running services notice within seconds."""
    with _database(data_dir):
        key = service.revoke_key(key_id)
        (owner,) = service.list_projects(key.project_id)
    say_done(key_view(key, owner, _OPERATOR), as_json, f"{key.id} ({escape(key.name)}) is revoked.")


@projects_app.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="A name that no other project has.")],
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Create a project."""
    with _database(data_dir):
        project = service.create_project(name)
    say_done(project_view(project), as_json, f"Made {project.id}: {escape(project.name)}")


@projects_app.command("list")
def list_projects(as_json: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Show all projects."""
    with _database(data_dir):
        projects = service.list_projects()
    if as_json:
        say_json([project_view(one) for one in projects])
        return
    rows = [(one.id, escape(one.name), when(one.created_at)) for one in projects]
    say_table(("project", "name", "made"), rows)


def check_exposure(settings: Settings) -> bool:
    """Whether there are keys. Raises CliError where there are none and others could reach the API."""
    try:
        guarded = service.has_keys()
    except SQLAlchemyError:
        if not is_loopback(settings.host):
            raise CliError(
                "the keys in the database cannot be read: run `policysplit migrate`, then "
                "`policysplit keys create`"
            ) from None
        return False
    if not guarded and not is_loopback(settings.host):
        raise CliError(
            f"with host {settings.host!r} others can reach the API, but there are no keys yet: create one "
            "with `policysplit keys create --name …`, or listen on 127.0.0.1"
        )
    return guarded


@contextlib.contextmanager
def _database(data_dir: Path | None) -> Iterator[None]:
    """The service's database, open during the block; problems become a CliError."""
    settings = settings_to_act_on(data_dir, database_alone=True)
    if not settings.database_url:
        # The embedded one, which `serve` brings up to date too: so keys can be made before the first start.
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        migrate_database(settings.resolved_database_url)
    try:
        yield
    except service.KeyProblem as error:
        raise CliError(str(error)) from error
    except SQLAlchemyError as error:
        raise CliError(
            f"the database cannot be used: {cause_of(error)}. Is it up to date? Run `policysplit migrate`"
        ) from error
    finally:
        close_engine(get_engine())
