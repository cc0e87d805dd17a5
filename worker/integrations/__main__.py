"""``python -m worker.integrations``: follows an attempt's event file and hands its metrics on.

A process of its own: a library that hangs, leaks or crashes can be ended, and holds up neither the trainer
nor the worker. Its argument is a pipe whose first line is the request; its end means that the attempt is
over, so that what remains is sent and the sinks are closed. On standard output is one JSON object
a line: ``{"ready": true}`` or ``{"failed": reason}`` first, then ``{"warning": text}``.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from trainer.spec.events import Finished, StepMetrics, read_events
from worker.integrations.sink import JobFacts, SetupFailed, Sink, open_sink

LOOK_SECONDS = 0.5


def main() -> int:
    """Set up, follow, close."""
    # Libraries print; the lines of this protocol are ours alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(**answer: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), file=answers, flush=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the pipe says when it is over
    asked = os.fdopen(int(sys.argv[1]))
    request = json.loads(asked.readline())
    facts = JobFacts(**request["facts"] | {"run_dir": Path(request["facts"]["run_dir"])})
    sinks: dict[str, Sink] = {}
    for integration in request["integrations"]:
        kind = integration["type"]
        try:
            sinks[kind] = open_sink(integration, facts)
        except SetupFailed as error:
            tell(failed=f"The integration {kind!r} cannot be set up: {error}.")
            return 1
        except Exception as error:
            tell(failed=f"The integration {kind!r} cannot be set up: {type(error).__name__}: {error}.")
            return 1
    tell(ready=True)
    over = threading.Event()
    threading.Thread(target=lambda: (asked.read(), over.set()), daemon=True).start()
    succeeded = _follow(Path(request["events"]), sinks, over, tell)
    for kind, sink in sinks.items():
        try:
            sink.close(succeeded)
        except Exception as error:
            tell(warning=f"The integration {kind!r} could not be notified of the job's end: {error}"[:500])
    return 0


def _follow(path: Path, sinks: dict[str, Sink], over: threading.Event, tell: Callable[..., None]) -> bool:
    """Until the attempt is over and all it wrote is handed on; whether the run was finished."""
    offset, finished = 0, False
    while True:
        last_look = over.is_set()
        for event, end in read_events(path, offset):
            offset = end
            if isinstance(event, StepMetrics):
                _log(event, sinks, tell)
            finished = finished or isinstance(event, Finished)
        if last_look:
            return finished
        over.wait(LOOK_SECONDS)


def _log(event: StepMetrics, sinks: dict[str, Sink], tell: Callable[..., None]) -> None:
    for kind, sink in list(sinks.items()):
        try:
            sink.log(event.step, event.time, event.values)
        except Exception as error:
            # Tried no more: whoever runs the job is told once, not at every step.
            del sinks[kind]
            text = (
                f"The integration {kind!r} failed at step {event.step} and receives no more metrics: {error}"
            )
            tell(warning=text[:500])


if __name__ == "__main__":
    sys.exit(main())
