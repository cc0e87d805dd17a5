"""The two terminals, and how a command speaks.

What models, rows and jobs say is shown, never obeyed: a character that a terminal would act on, or that would
turn the order of what is read, is shown as a sign for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_SIGNS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
#: C1 controls, and marks of direction.
_SIGNS |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
_SIGNS |= dict.fromkeys([0x061C, 0x200E, 0x200F, 0x2028, 0x2029], "\ufffd")


def visible(text: str) -> str:
    """``text`` with a sign in place of each character that does something to a terminal."""
    return text.translate(_SIGNS)


class VisibleConsole(Console):
    """Shows whatever it is given; what it tells the terminal itself, such as a colour, is not text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


out = VisibleConsole(highlight=False)
err = VisibleConsole(stderr=True, highlight=False)


def say_error(message: str) -> None:
    """One error, on standard error."""
    err.print("[bold red]Error:[/] ", end="")
    err.print(message, markup=False, soft_wrap=True)


@contextmanager
def told_how_to_look_again(command: str) -> Iterator[None]:
    """Whoever stops watching what goes on without them is told of the command that shows it again."""
    try:
        yield
    except KeyboardInterrupt:
        out.print(
            f"It continues in the background: [bold]policysplit {command}[/] shows it again.", soft_wrap=True
        )
        raise
