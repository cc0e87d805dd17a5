"""``policysplit jobs estimate``: ask for an estimate, wait for it, show it."""

import time
from typing import TYPE_CHECKING

from rich.table import Table

from app.cli.client import Told, get, post
from app.cli.console import err, out
from app.cli.errors import CliError
from app.cli.listing import say_json

if TYPE_CHECKING:
    import openai

_LOOK_SECONDS = 1.0


def show_estimate(client: "openai.OpenAI", body: Told, as_json: bool = False) -> None:
    """Print what the job of this body would take; raises CliError when that cannot be found out."""
    estimate = post(client, "/fine_tuning/jobs/estimate", body)
    path = f"/fine_tuning/estimates/{estimate['id']}"
    with err.status("a worker is running two steps …") as status:
        while estimate["status"] in ("queued", "running"):
            if estimate["status"] == "queued":
                status.update("waiting for a free worker …")
            else:
                status.update("a worker is running two steps …")
            time.sleep(_LOOK_SECONDS)
            estimate = get(client, path)
    if estimate["error"] is not None:
        raise CliError(f"the job would fail: {estimate['error']['message']}")
    if as_json:
        say_json(estimate)
    else:
        out.print(estimate_table(estimate["result"]))
        if estimate["result"].get("memory_plan"):
            out.print(memory_table(estimate["result"]["memory_plan"]))


def estimate_table(result: Told) -> Table:
    """The figures with their intervals."""
    table = Table()
    for header in ("", "expected", "from", "to"):
        table.add_column(header, justify="left" if not header else "right")
    memory = result["peak_memory_bytes"]
    rows = [
        (f"peak memory ({memory['device']})", memory, lambda value: f"{value / 2**30:.2f} GiB"),
        ("a step", result["seconds_per_step"], lambda value: f"{value:.2f} s"),
        (f"all {result['total_steps']} steps, start to finish", result["total_seconds"], _duration),
    ]
    for name, interval, shown in rows:
        table.add_row(name, *(shown(interval[key]) for key in ("value", "low", "high")))
    return table


def memory_table(plan: Told) -> Table:
    """What the memory is for, with the longest prompts and responses."""
    table = Table(title="planned memory per training process")
    for header in ("for", "needed", "GiB"):
        table.add_column(header, justify="right" if header == "GiB" else "left")
    for line in plan["lines"]:
        table.add_row(line["what"], line["phase"], f"{line['bytes'] / 2**30:.2f}")
    table.add_section()
    table.add_row("at the least", "", f"{plan['certain_bytes'] / 2**30:.2f}")
    table.add_row("with the longest prompts and responses", "", f"{plan['peak_bytes'] / 2**30:.2f}")
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
