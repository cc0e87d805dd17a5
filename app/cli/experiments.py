"""``policysplit experiments``: a thin client over the HTTP API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect, get, post
from app.cli.console import out, told_how_to_look_again
from app.cli.errors import CliError
from app.cli.experiment_progress import follow_experiment, retrieve, summary
from app.cli.jobs import FollowOption, beside, read_job_file, upload_files
from app.cli.judging import judge
from app.cli.listing import JsonOption, LimitOption, say_done, say_json, say_list, say_table, when
from app.cli.status import coloured, step_of
from trainer.statistics.wording import interval_ends, signed

if TYPE_CHECKING:
    import openai

app = typer.Typer(help="Experiments: compare arms on tasks with several seeds.", no_args_is_help=True)
app.command()(judge)
ExperimentId = Annotated[str, typer.Argument(help="exp_…")]


@app.command()
def run(
    file: Annotated[
        Path, typer.Argument(help="The experiment as YAML or JSON: the body of POST /experiments.")
    ],
    follow: FollowOption = True,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Start an experiment, uploading the files its tasks name. With --json it is not followed."""
    body = read_job_file(file)
    client = connect(base_url, data_dir)
    with api_errors(client):
        for task in body.get("tasks") or []:
            if isinstance(task, dict):
                upload_files(client, task, find=lambda path: beside(file, path))
        experiment = post(client, "/experiments", body)
        with told_how_to_look_again(f"experiments follow {experiment['id']}"):
            runs = experiment["progress"]["runs"]
            say_done(experiment, as_json, f"Created [bold]{experiment['id']}[/]: {runs} runs.")
            if follow and not as_json:
                _follow(client, experiment["id"])


@app.command()
def status(
    experiment_id: ExperimentId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show an experiment's progress."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        experiment = retrieve(client, experiment_id)
    if as_json:
        say_json(experiment)
        return
    out.print(summary(experiment))
    rows = [
        (
            escape(one["arm"]),
            escape(one["task"]),
            str(one["seed"]),
            coloured(one["status"]),
            step_of(one["progress"]),
            one["job_id"] or "",
        )
        for one in experiment["runs"]
    ]
    say_table(("arm", "task", "seed", "status", "step", "job"), rows)
    for one in experiment["runs"]:
        if one["error"]:
            out.print(f"{one['arm']}, {one['task']}, seed {one['seed']}: {escape(one['error']['message'])}")


@app.command("follow")
def follow_it(
    experiment_id: ExperimentId, base_url: BaseUrlOption = None, data_dir: DataDirOption = None
) -> None:
    """Show an experiment's progress until it ends, then its verdict. Exit status 1 if a run failed."""
    client = connect(base_url, data_dir)
    with api_errors(client), told_how_to_look_again(f"experiments follow {experiment_id}"):
        _follow(client, experiment_id)


@app.command("list")
def list_experiments(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the newest experiments."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        found = get(client, f"/experiments?limit={limit}")["data"]
    say_list(
        found,
        as_json,
        ("experiment", "name", "status", "runs ended", "made"),
        lambda one: (
            f"[bold]{one['id']}[/]",
            escape(one["name"]),
            coloured(one["status"]),
            f"{one['progress']['ended']}/{one['progress']['runs']}",
            when(one["created_at"]),
        ),
        "There are no experiments yet: policysplit experiments run FILE",
    )


@app.command()
def extend(
    experiment_id: ExperimentId,
    seeds: Annotated[str, typer.Option(help="Seeds to add, such as 3,4.")] = "",
    arm: Annotated[list[str] | None, typer.Option(help="An arm to add; may be repeated.")] = None,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Add seeds or arms."""
    try:
        numbers = [int(one) for one in seeds.split(",") if one.strip()]
    except ValueError:
        raise CliError(f"--seeds {seeds!r}: give comma-separated numbers, such as 3,4") from None
    client = connect(base_url, data_dir)
    with api_errors(client):
        body = {"seeds": numbers, "arms": arm or []}
        experiment = post(client, f"/experiments/{experiment_id}/extend", body)
    say_done(experiment, as_json, summary(experiment))


@app.command()
def cancel(
    experiment_id: ExperimentId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Cancel an experiment and its jobs."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        experiment = post(client, f"/experiments/{experiment_id}/cancel", {})
    say_done(experiment, as_json, summary(experiment))


@app.command()
def report(
    experiment_id: ExperimentId,
    output: Annotated[
        Path | None, typer.Option(help="Output: a .html, .csv or .json file. Default: print the verdict.")
    ] = None,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what the results so far show, or write the report."""
    kind = "json" if output is None else output.suffix.removeprefix(".")
    if kind not in ("html", "csv", "json"):
        raise CliError(f"{output}: give a name ending in .html, .csv or .json")
    client = connect(base_url, data_dir)
    path = f"/experiments/{experiment_id}/report"
    with api_errors(client):
        if output is None:
            found = get(client, path)
            if as_json:
                say_json(found)
            else:
                _verdict(found)
            return
        content = client.get(f"{path}?format={kind}", cast_to=bytes)
    output.write_bytes(content)
    say_done({"file": output, "bytes": len(content)}, as_json, f"Wrote {escape(str(output))}.")


def _follow(client: "openai.OpenAI", experiment_id: str) -> None:
    experiment = follow_experiment(client, experiment_id, out)
    _verdict(get(client, f"/experiments/{experiment_id}/report"))
    failed = sum(one["error"] is not None for one in experiment["runs"])
    if failed or experiment["status"] == "cancelled":
        raise CliError(f"{experiment_id} is {experiment['status']}; {failed} of its runs failed")


def _verdict(found: Told) -> None:
    out.print(f"[bold]{escape(found['winner']['sentence'])}[/]", soft_wrap=True)
    method = found["plan"]["method"]
    for title, rows in (("the claim", found["claims"]), ("against each arm", found["against_method"])):
        table = Table("task", "against", "difference", "95 % CI", "CI of the verdict", "Holm p", "better")
        table.title = f"{escape(method)}: {title}"
        for one in rows:
            plain, adjusted = (
                interval_ends(one[f"{kind}low"], one[f"{kind}high"]) for kind in ("", "adjusted_")
            )
            better = one["winner"] or one["withheld"] or "not decided"
            p = f"{one['holm_p']:.3g} (needs ≤ {one['level']:g})"
            against = "every baseline" if len(one.get("against", ())) > 1 else one["baseline"]
            table.add_row(
                *map(escape, (one["task"], against, signed(one["delta"]), plain, adjusted, p, better))
            )
        if rows:
            out.print(table)
    for rule in found["synergy"]:
        words = {True: "claimed", False: "not claimed", None: "not decided"}[rule["claimed"]]
        out.print(f"Synergy on {escape(rule['task'])}: {words}. {escape(' '.join(rule['reasons']))}")
    for note in found["notes"]:
        out.print(f"[dim]{escape(note)}[/]")
