"""``policysplit jobs``: a thin client over the HTTP API."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import yaml
from rich.markup import escape
from rich.table import Table

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect
from app.cli.console import err, out, told_how_to_look_again
from app.cli.errors import CliError
from app.cli.estimates import show_estimate
from app.cli.follow import TERMINAL, follow
from app.cli.listing import JsonOption, LimitOption, moment, say_done, say_json, say_table, when
from app.cli.status import coloured, step_of

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

app = typer.Typer(help="Fine-tuning jobs of a running service.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(help="ftjob-…")]
#: Of what is begun: a job, an experiment.
FollowOption = Annotated[
    bool, typer.Option("--follow/--no-follow", help="Show its progress until it ends, then its result.")
]


@app.command()
def create(
    file: Annotated[
        Path | None, typer.Option(help="The job as JSON or YAML: the body of POST /jobs.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model, or the ft: name of an earlier result.")
    ] = None,
    training_file: Annotated[str | None, typer.Option(help="A JSONL file to upload, or file-….")] = None,
    validation_file: Annotated[str | None, typer.Option(help="A JSONL file to upload, or file-….")] = None,
    suffix: Annotated[str | None, typer.Option(help="Part of the result's name.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and data give the same run.")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of one worker, or slots if workers have no GPUs.")
    ] = None,
    follow_it: FollowOption = True,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a job; options override fields of --file. With --json it is not followed."""
    body = read_job_file(file) if file else {}
    given = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "suffix": suffix,
        "seed": seed,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    if gpus is not None:
        body["resources"] = {**(body.get("resources") or {}), "gpus": gpus}
    client = connect(base_url, data_dir)
    with api_errors(client):
        upload_files(client, body)
        job = post_job(client, body)
        say_done(_fields(job), as_json, f"Created [bold]{job.id}[/], {job.status}.")
        if follow_it and not as_json:
            _follow(client, job.id)


@app.command()
def estimate(
    file: Annotated[Path, typer.Option(help="The job as JSON or YAML: the body of POST /jobs.")],
    training_file: Annotated[str | None, typer.Option(help="A JSONL file to upload, or file-….")] = None,
    validation_file: Annotated[str | None, typer.Option(help="A JSONL file to upload, or file-….")] = None,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Estimate what a job would take, from two steps run by a worker."""
    body = read_job_file(file)
    given = {"training_file": training_file, "validation_file": validation_file}
    body |= {name: value for name, value in given.items() if value is not None}
    client = connect(base_url, data_dir)
    with api_errors(client):
        upload_files(client, body)
        show_estimate(client, body, as_json)


@app.command("list")
def list_jobs(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the newest jobs."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        page = client.fine_tuning.jobs.list(limit=limit)
    if as_json:
        say_json([_fields(job) for job in page.data])
        return
    if not page.data:
        out.print("There are no jobs yet: policysplit jobs create --file JOB")
        return
    rows = [
        (
            f"[bold]{job.id}[/]",
            escape(str((job.model_extra or {}).get("name") or "")),
            coloured(job.status),
            step_of((job.model_extra or {}).get("progress")),
            _algorithm(job),
            when(job.created_at),
            escape(job.fine_tuned_model or job.model),
        )
        for job in page.data
    ]
    say_table(("job", "name", "status", "step", "algorithm", "made", "result, or else model"), rows)
    if page.has_more:
        out.print("[dim]There are more: --limit 100 shows up to 100.[/]")


@app.command()
def show(
    job_id: JobId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show one job in full."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        job = client.fine_tuning.jobs.retrieve(job_id)
    if as_json:
        say_json(_fields(job))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in _fields(job).items():
        if value in (None, [], {}) or name == "object":
            continue
        if name == "status":
            shown = coloured(str(value))
        elif name in ("created_at", "finished_at", "estimated_finish"):
            shown = moment(float(str(value)))
        else:
            shown = escape(
                value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
            )
        table.add_row(f"[cyan]{name}[/]", shown)
    out.print(table)


@app.command("follow")
def follow_job(job_id: JobId, base_url: BaseUrlOption = None, data_dir: DataDirOption = None) -> None:
    """Show a job's progress until it ends. Exit status 1 if it did not succeed."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        _follow(client, job_id)


@app.command()
def cancel(
    job_id: JobId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Cancel a job."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        job = client.fine_tuning.jobs.cancel(job_id)
    _say_status(job, as_json, "" if job.status in TERMINAL else ", stopping")


@app.command()
def pause(
    job_id: JobId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Pause a job; meanwhile its last checkpoint can be used."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        job = client.fine_tuning.jobs.pause(job_id)
    _say_status(job, as_json)


@app.command()
def resume(
    job_id: JobId,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Resume a paused job, with its budgets granted again."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        job = client.fine_tuning.jobs.resume(job_id)
    _say_status(job, as_json)


def _say_status(job: "FineTuningJob", as_json: bool, words: str = "") -> None:
    say_done(_fields(job), as_json, f"{job.id}: {coloured(job.status)}{words}")


def read_job_file(path: Path) -> Told:
    """A job file as the body of a request; raises CliError that says what is wrong with it."""
    try:
        text = path.read_text()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    try:
        if path.suffix in (".yaml", ".yml"):
            body = yaml.safe_load(text)
        else:
            body = json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise CliError(f"{path} cannot be parsed: {error}") from error
    if not isinstance(body, dict):
        raise CliError(f"{path} contains {type(body).__name__}, not an object with model, method and so on")
    return body


def upload_files(
    client: "openai.OpenAI", body: dict[str, object], find: Callable[[str], str] = lambda path: path
) -> None:
    """Put file ids in the place of the local paths that a job's body names; ``find`` says where those are."""
    for name in ("training_file", "validation_file"):
        if body.get(name) is not None:
            body[name] = upload(client, find(str(body[name])))


def beside(file: Path, value: str) -> str:
    """A path that ``file`` names: beside it, where there is such a file, or else as it is."""
    return str(file.parent / value) if (file.parent / value).is_file() else value


def upload(client: "openai.OpenAI", value: str, purpose: Literal["fine-tune", "evals"] = "fine-tune") -> str:
    """The id of ``value``: a file id as it is, a local path uploaded."""
    path = Path(value)
    if not path.is_file():
        if value.startswith("file-"):
            return value
        raise CliError(f"{value!r} is neither a local file nor a file id (file-…)")
    with path.open("rb") as handle:
        uploaded = client.files.create(file=handle, purpose=purpose)
    # On the way to what was asked for, which alone is on standard output.
    err.print(f"Uploaded {escape(str(path))} as {uploaded.id}.", soft_wrap=True)
    return uploaded.id


def post_job(client: "openai.OpenAI", body: dict[str, object]) -> "FineTuningJob":
    """Create a job from a request body, whichever of its fields the SDK knows."""
    from openai.types.fine_tuning import FineTuningJob

    return client.post("/fine_tuning/jobs", cast_to=FineTuningJob, body=body)


def _follow(client: "openai.OpenAI", job_id: str) -> None:
    with told_how_to_look_again(f"jobs follow {job_id}"):
        job, _ = follow(client, job_id, out)
    if job.status == "failed" and job.error is not None:
        raise CliError(f"{job.id} failed: {job.error.message}")
    if job.status != "succeeded":
        raise CliError(f"{job.id} is {job.status}")
    seconds = (job.finished_at or time.time()) - job.created_at
    out.print(
        f"[green]{job.id} succeeded[/] after {seconds:.0f} s: [bold]{job.fine_tuned_model}[/]", soft_wrap=True
    )


def _fields(job: "FineTuningJob") -> dict[str, object]:
    """All of the job. The SDK would warn of what its types do not have, such as a grader of ours."""
    return job.to_dict(mode="json", warnings=False)


def _algorithm(job: "FineTuningJob") -> str:
    method = _fields(job).get("method")
    if not isinstance(method, dict):
        return ""
    found = method.get("reinforcement")
    if found is None:
        return str(method.get("type", ""))
    algorithm = found.get("algorithm") if isinstance(found, dict) else None
    return str(algorithm.get("type", "")) if isinstance(algorithm, dict) else ""
