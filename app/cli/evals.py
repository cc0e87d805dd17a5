"""``policysplit evals``: a thin client over the HTTP API."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect, get, post
from app.cli.console import out, told_how_to_look_again
from app.cli.errors import CliError
from app.cli.jobs import FollowOption, beside, read_job_file, upload
from app.cli.listing import JsonOption, LimitOption, say_done, say_json, say_list, say_table, when
from app.cli.status import coloured

if TYPE_CHECKING:
    import openai

app = typer.Typer(help="Evals: criteria for answers, and their runs.", no_args_is_help=True)
EvalId = Annotated[str, typer.Argument(help="eval_…")]
RunId = Annotated[str, typer.Argument(help="evalrun_…")]
POLL_SECONDS = 1.0
_ENDED = ("completed", "failed", "canceled")


@app.command("list")
def list_evals(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the newest evals."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        found = get(client, f"/evals?limit={limit}&order=desc")["data"]
    say_list(
        found,
        as_json,
        ("eval", "name", "criteria", "made"),
        lambda one: (
            f"[bold]{one['id']}[/]",
            escape(one["name"]),
            escape(", ".join(criterion["name"] for criterion in one["testing_criteria"])),
            when(one["created_at"]),
        ),
        "There are no evals yet: policysplit evals create FILE",
    )


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="The eval as YAML or JSON: the body of POST /evals.")],
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create an eval."""
    body = read_job_file(file)
    client = connect(base_url, data_dir)
    with api_errors(client):
        made = post(client, "/evals", body)
    say_done(
        made,
        as_json,
        f"Created [bold]{made['id']}[/]. Run it: policysplit evals run {made['id']} FILE",
    )


@app.command()
def run(
    eval_id: EvalId,
    file: Annotated[
        Path,
        typer.Argument(
            help="The run as YAML or JSON: the body of POST /evals/{id}/runs. data_source.source.id may be a "
            "file of rows beside it."
        ),
    ],
    follow: FollowOption = True,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Start a run, uploading the file of rows it names. With --json it is not followed."""
    body = read_job_file(file)
    client = connect(base_url, data_dir)
    with api_errors(client):
        _upload_rows(client, body, file)
        made = post(client, f"/evals/{quote(eval_id, safe='')}/runs", body)
        say_done(made, as_json, f"Created [bold]{made['id']}[/]: {made['progress']['total_items']} items.")
        if follow and not as_json:
            with told_how_to_look_again(f"evals results {eval_id} {made['id']}"):
                _say_results(_until_ended(client, made))


@app.command()
def runs(
    eval_id: EvalId,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show an eval's newest runs."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        found = get(client, f"/evals/{quote(eval_id, safe='')}/runs?limit={limit}&order=desc")["data"]
    say_list(
        found,
        as_json,
        ("run", "name", "status", "passed", "made"),
        lambda one: (
            f"[bold]{one['id']}[/]",
            escape(one["name"]),
            coloured(one["status"]),
            f"{one['result_counts']['passed']}/{one['result_counts']['total']}",
            when(one["created_at"]),
        ),
        f"It has no runs yet: policysplit evals run {eval_id} FILE",
    )


@app.command()
def results(
    eval_id: EvalId,
    run_id: RunId,
    items: Annotated[bool, typer.Option("--items", help="Also list each item with its result.")] = False,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a run's results so far. Exit status 1 if it failed."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        path = _run_path(eval_id, run_id)
        found = get(client, path)
        all_items = list(_items(client, path)) if items else None
    if as_json:
        say_json(found if all_items is None else found | {"output_items": all_items})
        return
    if all_items is not None:
        rows = [(one["id"], coloured(one["status"]), escape(_because(one))) for one in all_items]
        say_table(("item", "status", "criteria"), rows)
    _say_results(found)


def _upload_rows(client: "openai.OpenAI", body: Told, file: Path) -> None:
    """Put a file's id in the place of its path, here or beside the run's file."""
    source: Any = body.get("data_source")
    source = source.get("source") if isinstance(source, dict) else None
    if (
        not isinstance(source, dict)
        or source.get("type") != "file_id"
        or not isinstance(source.get("id"), str)
    ):
        return  # the service says what is wrong with it
    source["id"] = upload(client, beside(file, source["id"]), "evals")


def _until_ended(client: "openai.OpenAI", run: Told) -> Told:
    """The run when it has ended, also over restarts of the service; a line each time that it got further."""
    import openai

    path, told = _run_path(run["eval_id"], run["id"]), None
    while True:
        progress = run["progress"]
        if (done := (run["status"], progress["items"])) != told:
            told = done
            out.print(f"[dim]{progress['items']}/{progress['total_items']}[/]  {coloured(run['status'])}")
        if run["status"] in _ENDED:
            return run
        time.sleep(POLL_SECONDS)
        with contextlib.suppress(openai.APIConnectionError):
            run = get(client, path)


def _say_results(run: Told) -> None:
    counts = run["result_counts"]
    out.print(
        f"[bold]{escape(run['name'])}[/] is {coloured(run['status'])}: {counts['passed']} of "
        f"{counts['total']} items passed, {counts['failed']} failed, {counts['errored']} could not be "
        "graded.",
        soft_wrap=True,
    )
    rows = [
        (
            escape(one["testing_criteria"]),
            str(one["passed"]),
            str(one["failed"]),
            str(one["errored"]),
            "" if one["mean_score"] is None else f"{one['mean_score']:.4g}",
        )
        for one in run["per_testing_criteria_results"]
    ]
    say_table(("criterion", "passed", "failed", "not graded", "mean score"), rows)
    out.print(f"[dim]{run['report_url']}[/]", soft_wrap=True)
    if run["error"] is not None:
        raise CliError(f"{run['id']} failed: {run['error']['message']}")


def _items(client: "openai.OpenAI", path: str) -> list[Told]:
    found: list[Told] = []
    more = True
    while more:
        after = f"&after={found[-1]['id']}" if found else ""
        page = get(client, f"{path}/output_items?limit=100{after}")
        found += page["data"]
        more = page["has_more"]
    return found


def _because(item: Told) -> str:
    def one(result: Told) -> str:
        return f"{result['name']} {'passed' if result['passed'] else 'did not pass'}"

    return ", ".join(map(one, item["results"]))


def _run_path(eval_id: str, run_id: str) -> str:
    return f"/evals/{quote(eval_id, safe='')}/runs/{quote(run_id, safe='')}"
