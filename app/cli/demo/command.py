"""The demo's course: service, model, data, job, answers, numbers."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.cli.client import api_errors, connect
from app.cli.console import out
from app.cli.demo.conversation import ask_both_modes
from app.cli.demo.result import Result, comparison, distance, markdown, reward_plot, verdict
from app.cli.demo.rows import Body
from app.cli.demo.service import running_service
from app.cli.demo.task import TASKS, Task
from app.cli.errors import CliError
from app.cli.follow import TERMINAL, duration, follow
from app.cli.models import pull_model

if TYPE_CHECKING:
    import openai


def demo(
    name: Annotated[str, typer.Option("--task", help=f"What to train: {', '.join(TASKS)}.")] = "sums",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the job.")] = 0,
    seeds: Annotated[
        str | None, typer.Option(help="Several seeds, run one after another, such as 0,1,2.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; default: the task's.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the service running afterwards.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Data directory of the demo's service.")] = Path(
        ".policysplit/demo"
    ),
) -> None:
    """Train SmolLM2-135M in two modes in minutes, on 2 cores, then ask both the same questions."""
    if name not in TASKS:
        raise CliError(f"--task {name!r} is not a task of the demo; give one of {', '.join(TASKS)}")
    task = TASKS[name]
    chosen = _seeds(seeds) if seeds is not None else [seed]
    directory = data_dir.expanduser().resolve()
    clock = Clock()
    with contextlib.ExitStack() as stack:
        with clock.phase("Get the model"):
            pull_model(task.job_body()["model"], directory / "models")
        with clock.phase("Start the service"):
            url = stack.enter_context(running_service(directory))
        client = connect(url)
        with api_errors(client):
            results = _train_all(client, task, directory, chosen, steps, clock)
        _times(clock)
        if len(results) > 1:
            out.print("\n" + markdown(results), markup=False, soft_wrap=True)
        if keep:
            _stay(url, task, results[-1])
    out.print(
        f"[dim]Everything the demo made is in {directory}; delete it whenever you like.[/]", soft_wrap=True
    )


class Clock:
    """Announces phases and adds up how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        out.print(f"\n[bold]▶ {name}[/]")
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def _train_all(
    client: "openai.OpenAI", task: Task, directory: Path, seeds: list[int], steps: int | None, clock: Clock
) -> list[Result]:
    with clock.phase("Create and upload the data"):
        training = directory / "data" / "training.jsonl"
        validation = directory / "data" / "validation.jsonl"
        rows, unseen = task.write_data(training, validation)
        out.print(f"  {len(rows)} rows to train on, {len(unseen)} to validate with, such as:")
        out.print(f"  {rows[0]['messages'][0]['content']}  →  {task.expected(rows[0])}", markup=False)
        files: Body = {}
        for name, path in (("training_file", training), ("validation_file", validation)):
            files[name] = client.files.create(file=path, purpose="fine-tune").id
            out.print(f"  uploaded {path.name} as {files[name]}")
    results = []
    for seed in seeds:
        with clock.phase("Train in both modes"):
            result = _train(client, task, files, seed, steps)
        with clock.phase("Ask both modes"):
            out.print(ask_both_modes(client, task, result.model, unseen, seed))
        out.print(reward_plot(result.curves), comparison(result), distance(result), sep="\n")
        for sentence in verdict(result):
            out.print(f"• {sentence}")
        results.append(result)
    return results


def _train(client: "openai.OpenAI", task: Task, files: Body, seed: int, steps: int | None) -> Result:
    """Create the job with the SDK as it is, follow it to its end; an interrupted one is cancelled."""
    body = task.job_body()
    if steps is not None:
        body["method"]["reinforcement"]["budget"]["steps"] = steps
    began = time.monotonic()
    job = client.fine_tuning.jobs.create(**body, **files, seed=seed)
    out.print(f"  created {job.id} (seed {seed}): policy_split on {job.model}", soft_wrap=True)
    try:
        job, curves = follow(client, job.id, out)
    except BaseException:
        # Ctrl-C: a job that is cancelled ends in seconds, one that is merely stopped saves itself first.
        with contextlib.suppress(Exception):
            if client.fine_tuning.jobs.retrieve(job.id).status not in TERMINAL:
                client.fine_tuning.jobs.cancel(job.id)
        raise
    if job.status != "succeeded" or job.fine_tuned_model is None:
        raise CliError(f"{job.id} {job.status}" + (f": {job.error.message}" if job.error else ""))
    return Result(seed, job.fine_tuned_model, time.monotonic() - began, curves)


def _times(clock: Clock) -> None:
    table = Table.grid(padding=(0, 2))
    for name, seconds in clock.seconds.items():
        table.add_row(name, duration(seconds))
    table.add_row("[bold]in all[/]", f"[bold]{duration(sum(clock.seconds.values()))}[/]")
    out.print("\n[bold]How long it took[/]", table, sep="\n")


def _stay(url: str, task: Task, result: Result) -> None:
    _, unseen = task.rows()
    body = {"model": f"{result.model}:high-entropy", "messages": unseen[0]["messages"]}
    out.print(f"\nThe service keeps running at [bold]{url}[/] until Ctrl-C. Try:", soft_wrap=True)
    out.print(
        f"  curl {url}/chat/completions -H 'content-type: application/json' -d '{json.dumps(body)}'",
        markup=False,
        soft_wrap=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise CliError(f"--seeds {text!r} is not a list of whole numbers from 0 up, such as 0,1,2")
    return seeds
