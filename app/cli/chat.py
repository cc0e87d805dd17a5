"""``policysplit chat``: a conversation in the terminal, on request with both modes side by side."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.columns import Columns
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from app.cli.client import BaseUrlOption, DataDirOption, api_errors, connect
from app.cli.console import out
from app.cli.errors import CliError
from app.core.strict_json import JsonObject
from app.inference.sampling import MAX_CHOICES
from trainer.spec.modes import Mode

if TYPE_CHECKING:
    import openai

STYLES = {Mode.NORMAL: "dodger_blue2", Mode.HIGH_ENTROPY: "dark_orange"}
_SUFFIX = f":{Mode.HIGH_ENTROPY.value}"
HELP = "Type a message; /reset starts over, /quit exits."


#: What a completion is asked for with.
Options = JsonObject


@dataclass
class Side:
    """One mode's conversation, which the other mode's answers are not part of."""

    model: str
    mode: Mode
    system: str | None = None
    messages: list[Any] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """Answers to the last message so far."""
    problem: str | None = None

    def reset(self) -> None:
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]

    def said(self) -> str:
        """The answers, equal ones once with their count, the commonest first; while they come, each."""
        lines = [f"{count} × {text}" if count > 1 else text for text, count in self._counted()]
        return ("\n" if max(map(len, lines), default=0) < 80 else "\n\n").join(lines)

    def remembered(self) -> str:
        """What the conversation goes on with: the commonest answer."""
        return self._counted()[0][0]

    def _counted(self) -> list[tuple[str, int]]:
        """Answers that differ in white space alone are equal."""
        same: dict[str, list[str]] = {}
        for text in self.answers:
            same.setdefault(" ".join(text.split()), []).append(text)
        return [(alike[0], len(alike)) for alike in sorted(same.values(), key=len, reverse=True)]

    def panel(self, width: int) -> Panel:
        text = Text(self.said() if self.problem is None else self.problem)
        if self.problem is not None:
            text.stylize("red")
        return Panel(text, title=self.mode.value, border_style=STYLES[self.mode], width=width)


def chat(
    model: Annotated[str, typer.Argument(help="The model's id; the ending :high-entropy selects that mode.")],
    both: Annotated[bool, typer.Option("--both", help="Show both modes side by side.")] = False,
    system: Annotated[str | None, typer.Option(help="Your own system message.")] = None,
    samples: Annotated[
        int,
        typer.Option("--samples", "-n", min=1, max=MAX_CHOICES, help="Answers per mode to each message."),
    ] = 1,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0: always the most likely token.")] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum tokens per answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="For reproducible answers.")] = None,
    base_url: BaseUrlOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Talk to a model. Each mode remembers its own answers; of several, the most common one."""
    client = connect(base_url, data_dir)
    plain = model.removesuffix(_SUFFIX)
    modes = list(Mode) if both else [Mode.HIGH_ENTROPY if model.endswith(_SUFFIX) else Mode.NORMAL]
    sides = [Side(plain + (_SUFFIX if mode is Mode.HIGH_ENTROPY else ""), mode, system) for mode in modes]
    with api_errors(client):
        for side in sides:
            client.models.retrieve(side.model)  # before anything was typed
    options: Options = {"temperature": temperature, "n": samples}
    if max_tokens is not None:
        options["max_completion_tokens"] = max_tokens
    if seed is not None:
        options["seed"] = seed
    for side in sides:
        side.reset()
    if out.is_terminal:
        out.print(f"[dim]{HELP}[/]")
    for line in _lines():
        if line == "/reset":
            for side in sides:
                side.reset()
        elif line.startswith("/"):
            out.print(f"[dim]Unknown: {line}. {HELP}[/]")
        else:
            _exchange(client, sides, line, options)
    if not out.is_terminal and any(side.problem for side in sides):
        raise CliError("the last answer failed")


def _lines() -> Iterator[str]:
    """What is typed, until the end of input or /quit."""
    while True:
        try:
            line = out.input("[bold]> [/]" if out.is_terminal else "").strip()
        except EOFError:
            return
        if line in ("/quit", "/exit"):
            return
        if line:
            yield line


def _exchange(client: "openai.OpenAI", sides: list[Side], line: str, options: Options) -> None:
    """One message to every side at once; the answers are shown as they grow."""
    for side in sides:
        side.messages.append({"role": "user", "content": line})
        side.answers, side.problem = [""] * options["n"], None

    def shown() -> RenderableType:
        width = max(20, out.width // len(sides) - 1)
        return Columns([side.panel(width) for side in sides], padding=(0, 0))

    live = Live(console=out, refresh_per_second=12, get_renderable=shown) if out.is_terminal else None
    with live or contextlib.nullcontext(), ThreadPoolExecutor(len(sides)) as pool:
        for future in [pool.submit(_answer, client, side, options) for side in sides]:
            future.result()
    if live is None:
        for side in sides:
            out.print(f"{side.mode.value}: {side.problem or side.said()}", markup=False, soft_wrap=True)
    for side in sides:
        if side.problem is None:
            side.messages.append({"role": "assistant", "content": side.remembered()})
        else:
            side.messages.pop()


def _answer(client: "openai.OpenAI", side: Side, options: Options) -> None:
    """Stream one answer into ``side``; a failure is shown in its place."""
    with _problems_into(side), api_errors(client):
        stream = client.chat.completions.create(
            model=side.model, messages=side.messages, stream=True, **options
        )
        for chunk in stream:
            for choice in chunk.choices:
                side.answers[choice.index] += choice.delta.content or ""


@contextlib.contextmanager
def _problems_into(side: Side) -> Iterator[None]:
    import openai

    try:
        yield
    except CliError as error:
        side.problem = str(error)
    except openai.APIError as error:  # an error in the stream
        side.problem = error.message
