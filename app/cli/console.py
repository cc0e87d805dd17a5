"""The two terminals, and how a command speaks."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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
        out.print(f"It goes on without you: [bold]policysplit {command}[/] shows it again.", soft_wrap=True)
        raise
