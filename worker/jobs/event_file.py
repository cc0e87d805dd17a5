"""The lines of a trainer's event file, in batches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from trainer.spec.events import Event, parse_event

MAX_EVENTS = 500
MAX_BYTES = 4 << 20


@dataclass
class Batch:
    """Whole lines of an event file."""

    start: int
    end: int
    events: list[Event] = field(default_factory=list[Event])
    #: What is wrong with lines that are not events, and with events that cannot become rows.
    faults: list[str] = field(default_factory=list[str])
    #: Whether the next event has to wait.
    waits: bool = False


def read_batch(
    path: Path,
    offset: int,
    max_events: int = MAX_EVENTS,
    has_to_wait: Callable[[Event], bool] = lambda _: False,
) -> Batch:
    """The next lines from ``offset``, up to an event that has to wait; a last line without its newline is
    still being written."""
    batch = Batch(offset, offset)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return batch
    with file:
        file.seek(offset)
        for _ in range(max_events):
            line = file.readline()
            if not line.endswith(b"\n"):
                break
            try:
                event = parse_event(line)
                if has_to_wait(event):
                    batch.waits = True
                    break
                batch.events.append(event)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                batch.faults.append(f"byte {batch.end}: {first['msg']}")
            batch.end += len(line)
            if batch.end - offset >= MAX_BYTES:
                break
    return batch
