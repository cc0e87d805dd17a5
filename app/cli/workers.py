"""``policysplit workers``: what works, and what waits for it."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer
from rich.markup import escape

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect, get, post
from app.cli.console import out
from app.cli.listing import JsonOption, say_done, say_json, say_table, size, when

if TYPE_CHECKING:
    import openai

app = typer.Typer(help="Workers and their queue.", no_args_is_help=True)
WorkerId = Annotated[str, typer.Argument(help="Id of the worker, as listed by `policysplit workers list`.")]
_STYLES = {"online": "green", "draining": "yellow", "lost": "red"}


@app.command("list")
def list_workers(
    as_json: JsonOption = False, base_url: BaseUrlOption = None, data_dir: DataDirOption = None
) -> None:
    """Show workers, newest first, and what the queue is waiting for."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        workers = get(client, "/workers?limit=100")["data"]
        queue = get(client, "/queue")
    if as_json:
        say_json({"workers": workers, "queue": queue})
        return
    if workers:
        headers = ("worker", "status", "gpus", "memory", "runs", "cache", "version", "heard of")
        say_table(headers, [_row(one) for one in workers])
    taken = queue["slots"] - queue["free_slots"]
    numbers = (
        f"{queue['waiting']} waiting, {queue['running']} running, {taken} of {queue['slots']} slots taken"
    )
    out.print(f"{numbers}. {queue['message']}", soft_wrap=True)


def _row(one: Told) -> tuple[str, ...]:
    status = one["status"]
    if one["type"] == "training":
        runs = " ".join([f"{one['slots_taken']}/{one['slots']} slots", *one["jobs"]])
    else:
        runs = f"{one['models_loaded']} models, {one['running']} requests"
    return (
        escape(one["id"]),
        f"[{_STYLES[status]}]{status}[/]",
        str(len(one["gpus"]) or "CPU"),
        size(one["memory"]["host_bytes"]) if one["memory"] else "",
        runs,
        size(one["cache"]["bytes"]) if one["cache"] else "",
        escape(one["version"] or ""),
        when(one["heartbeat_at"]),
    )


@app.command()
def drain(
    worker_id: WorkerId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Drain a worker: it takes no more jobs, and its running jobs continue."""
    _change(worker_id, "drain", as_json, connect(base_url, data_dir))


@app.command()
def undrain(
    worker_id: WorkerId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Undrain a worker so that it takes jobs again."""
    _change(worker_id, "undrain", as_json, connect(base_url, data_dir))


def _change(worker_id: str, verb: str, as_json: bool, client: "openai.OpenAI") -> None:
    with api_errors(client):
        worker = post(client, f"/workers/{quote(worker_id, safe='')}/{verb}", {})
    number = worker["running"]
    runs = f"it runs {number} {'job' if number == 1 else 'jobs'}" if number else "it runs nothing"
    say_done(worker, as_json, f"{escape(worker['id'])} is {worker['status']}; {runs}")
