"""Following an experiment: a line for each run that ends, and a live display of those that run."""

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli.client import Told, get
from app.cli.follow import TERMINAL
from app.cli.status import STATUS_STYLES, coloured, step_of

if TYPE_CHECKING:
    import openai

POLL_SECONDS = 2.0
_ENDED = ("completed", "cancelled", "out_of_budget")
_RUN_ENDED = TERMINAL | {"refused"}


def follow_experiment(client: "openai.OpenAI", experiment_id: str, console: Console) -> Told:
    """Show an experiment's progress until it ends, also over restarts of the service; returns it."""
    import openai

    experiment = retrieve(client, experiment_id)  # an unknown one is an error, not something to wait for
    told: set[tuple[str, str, int]] = set()
    live = Live(
        console=console, refresh_per_second=4, transient=True, get_renderable=lambda: _display(experiment)
    )
    with live if console.is_terminal else contextlib.nullcontext():
        while True:
            for run in experiment["runs"]:
                key = (run["arm"], run["task"], run["seed"])
                if run["status"] in _RUN_ENDED and key not in told:
                    told.add(key)
                    console.print(_line(run, len(told), len(experiment["runs"])), soft_wrap=True)
            if experiment["status"] in _ENDED:
                return experiment
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(openai.APIConnectionError):
                experiment = retrieve(client, experiment_id)


def retrieve(client: "openai.OpenAI", experiment_id: str) -> Told:
    """The experiment with its runs."""
    return get(client, f"/experiments/{experiment_id}")


def summary(experiment: Told) -> str:
    """Its status, and how many runs have which."""
    counts = ", ".join(
        f"{count} {name}" for name, count in sorted(experiment["progress"]["by_status"].items())
    )
    return f"{experiment['status']}: {counts}"


def _name(run: Told) -> str:
    return f"{run['arm']} on {run['task']}, seed {run['seed']}"


def _line(run: Told, ended: int, runs: int) -> str:
    why = f": {escape(run['error']['message'])}" if run["error"] else ""
    return f"[dim]{ended}/{runs}[/]  {escape(_name(run))}: {coloured(run['status'])}{why}"


def _display(experiment: Told) -> Group:
    runs = experiment["runs"]
    grid = Table.grid(padding=(0, 2))
    ended = experiment["progress"]["ended"]
    grid.add_row("runs", ProgressBar(total=len(runs), completed=ended, width=30), f"{ended}/{len(runs)}")
    others: Counter[str] = Counter()
    for run in runs:
        if run["status"] == "running" and run["progress"] is not None:
            step, steps = run["progress"]["step"], run["progress"]["total_steps"]
            bar = ProgressBar(total=steps or None, completed=step, width=30, pulse=not steps)
            grid.add_row(Text(_name(run), style=STATUS_STYLES["running"]), bar, step_of(run["progress"]))
        elif run["status"] not in _RUN_ENDED:
            others[run["status"]] += 1
    waiting = ", ".join(f"{count} {status}" for status, count in sorted(others.items()))
    return Group(grid, Text(waiting, style="dim"))
