"""Following a job: its events from the API, and a live display of them in the terminal."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.cli.client import Told
from app.cli.sparkline import sparkline
from app.jobs.losses import learns_from_rows

if TYPE_CHECKING:
    import openai
    from openai.types.fine_tuning import FineTuningJob

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
# Where following ends: a paused job goes on only when somebody resumes it.
RESTING = TERMINAL | {"paused"}
RECONNECT_SECONDS = 1.0
MODES = {"N": ("normal", "dodger_blue2"), "H": ("high-entropy", "dark_orange")}
LOSSES = {"loss": "train/loss", "validation loss": "eval/loss"}
LEVEL_STYLES = {"info": "dim", "warn": "yellow", "error": "red"}


def follow(client: "openai.OpenAI", job_id: str, console: Console) -> tuple["FineTuningJob", "Curves"]:
    """Show a job's progress until it rests; returns the job and the series seen on the way."""
    curves = Curves()
    client.fine_tuning.jobs.retrieve(job_id)  # an unknown job is an error, not something to wait for
    # Where there is no terminal to redraw, each step is a line of its own.
    live = Live(console=console, refresh_per_second=4, get_renderable=lambda: render(curves))
    with live if console.is_terminal else contextlib.nullcontext():
        for event in events(client, job_id):
            data = event.get("data") or {}
            if event.get("type") == "metrics":
                curves.add(data)
                if not console.is_terminal:
                    console.print(curves.line(), markup=False, soft_wrap=True)
            else:
                style = LEVEL_STYLES.get(str(event.get("level")), "dim")
                console.print(f"[{style}]{escape(str(event.get('message')))}[/]", soft_wrap=True)
    return client.fine_tuning.jobs.retrieve(job_id), curves


def events(client: "openai.OpenAI", job_id: str) -> Iterator[Told]:
    """All events of a job, old ones first, then as they come; ends when the job rests.

    A lost connection is taken up again after the last event that arrived.
    """
    import openai

    last: str | None = None
    while True:
        with contextlib.suppress(openai.APIConnectionError, openai.APIStatusError):
            for event in _stream(client, job_id, last):
                last = event["id"]
                yield event
        with contextlib.suppress(openai.APIConnectionError):
            if client.fine_tuning.jobs.retrieve(job_id).status in RESTING:
                return
        time.sleep(RECONNECT_SECONDS)


def _stream(client: "openai.OpenAI", job_id: str, after: str | None) -> Iterator[Told]:
    """The server-sent events of one connection."""
    import openai

    headers = {"accept": "text/event-stream"} | ({} if after is None else {"last-event-id": after})
    # The server sends a comment now and then, so silence means a dead connection.
    patient = client.with_options(timeout=openai.Timeout(10, read=90), max_retries=0)
    with patient.get(
        f"/fine_tuning/jobs/{job_id}/events",
        cast_to=object,
        options={"headers": headers, "params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.Stream[Any],
    ) as events:
        yield from events


@dataclass
class Curves:
    """The metrics seen so far, by name and step."""

    series: dict[str, dict[int, float]] = field(default_factory=dict)
    step: int = 0
    total_steps: int = 0
    started: float = field(default_factory=time.monotonic)
    first_step_at: float | None = None

    def add(self, data: Told) -> None:
        """Take in the ``data`` of a metrics event."""
        self.step = max(self.step, int(data["step"]))
        self.total_steps = int(data["total_steps"])
        for name, value in (data.get("values") or {}).items():
            self.series.setdefault(name, {})[int(data["step"])] = value

    def values(self, name: str) -> list[float]:
        """A series in the order of its steps."""
        points = self.series.get(name, {})
        return [points[step] for step in sorted(points)]

    def last(self, name: str) -> float | None:
        values = self.values(name)
        return values[-1] if values else None

    def losses(self) -> Iterator[tuple[str, list[float]]]:
        """Of a job that learns from rows, each loss so far with what it is of."""
        if learns_from_rows(self.series):
            for what, name in LOSSES.items():
                if values := self.values(name):
                    yield what, values

    def eta_seconds(self) -> float | None:
        """Remaining steps times the median duration of the last ones."""
        recent = self.values("train/step_seconds")[-5:]
        return statistics.median(recent) * (self.total_steps - self.step) if recent else None

    def line(self) -> str:
        """The latest step as one line of text, for a log."""
        parts = [f"step {self.step}/{self.total_steps}"]
        for label, (name, _) in MODES.items():
            at = "train" if self.step else "eval"
            reward, entropy = self.last(f"{at}/{label}/reward"), self.last(f"{at}/{label}/entropy_nats")
            if reward is not None and entropy is not None:
                parts.append(f"{name}: reward {reward:.2f}, entropy {entropy:.2f} nats")
        parts += [f"{what} {values[-1]:.4g}" for what, values in self.losses()]
        if (speed := self.last("train/tokens_per_second")) is not None:
            parts.append(f"{speed:.0f} tokens/s")
        if (eta := self.eta_seconds()) is not None:
            parts.append(f"ETA {duration(eta)}")
        return "  ".join(parts)


def render(curves: Curves) -> Group:
    """The live display: a bar, and reward and entropy of both modes as they run."""
    speed, eta = curves.last("train/tokens_per_second"), curves.eta_seconds()
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(
            f"step {curves.step}/{curves.total_steps}" if curves.total_steps else "waiting for the first step"
        ),
        ProgressBar(
            total=curves.total_steps or None, completed=curves.step, width=36, pulse=not curves.total_steps
        ),
        Text(f"{speed:.0f} tokens/s" if speed is not None else "", style="cyan"),
        Text(f"ETA {duration(eta)}" if eta is not None else "", style="cyan"),
    )
    body = Table.grid(padding=(0, 2))
    for label, (name, style) in MODES.items():
        rewards = curves.values(f"train/{label}/reward")
        entropies = curves.values(f"train/{label}/entropy_nats")
        if rewards and entropies:
            body.add_row(
                Text(name, style=style),
                Text(f"reward {rewards[-1]:.2f}"),
                Text(sparkline(rewards, low=0.0, high=1.0), style=style),
                Text(f"entropy {entropies[-1]:.2f} nats"),
                Text(sparkline(entropies), style=style),
            )
    for what, values in curves.losses():
        body.add_row(Text(what), Text(f"{values[-1]:.4g}"), Text(sparkline(values), style="cyan"))
    return Group(head, body)


def duration(seconds: float) -> str:
    """Seconds as 1:02 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
