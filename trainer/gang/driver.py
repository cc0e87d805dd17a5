"""One attempt at a run on a Ray cluster: place, look, start, follow, and say how it ended."""

import argparse
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from trainer.__main__ import EXIT_FAILED, EXIT_FINISHED, EXIT_INVALID, EXIT_STOPPED
from trainer.errors import HostLost, InvalidSpec, RankLost, TrainerError
from trainer.gang.gang import End, Gang
from trainer.gang.placement import Wanted, place
from trainer.spec.events import (
    Event,
    EventWriter,
    Failed,
    Finished,
    MessageEvent,
    Phase,
    Stopped,
    parse_event,
)
from trainer.spec.run import RunSpec
from trainer.system.environment import for_another_host

#: What the hosts run, each with its own Python.
OWN = ["-P", "-m", "trainer"]
#: A driver that waits for GPUs says so often that it lives.
BEAT_SECONDS = 20.0
#: The phase in which it waits (``worker.jobs.preflight_status``).
PHASE = "placement"
#: More than any event that tells of an end.
TAIL_BYTES = 1 << 18
_log = logging.getLogger("trainer.gang")


class Driver:
    """What the driver does, once it is connected; ``stop`` and ``dump`` are set by signals."""

    def __init__(self, options: argparse.Namespace, stop: threading.Event, dump: threading.Event):
        self._options, self._stop, self._dump = options, stop, dump
        self._run_dir: Path = options.run_dir.absolute()
        self._events = self._run_dir / options.events
        self._told = ""
        self._next_beat = 0.0

    def wanted(self) -> Wanted:
        """What is to be placed. Raises InvalidSpec."""
        options = self._options
        least = options.min_ranks or options.ranks
        if not 1 <= least <= options.ranks:
            raise InvalidSpec(f"--min-ranks is {least}: give 1 to {options.ranks}, the number of ranks")
        if options.nodes is not None and (options.nodes < 1 or options.ranks % options.nodes):
            raise InvalidSpec(
                f"{options.ranks} ranks cannot be divided evenly over {options.nodes} hosts: give a "
                "multiple of that"
            )
        beside, parallel = options.rollout_gpus, options.tensor_parallel
        if (beside or parallel > 1) and options.nodes != 1:
            raise InvalidSpec(
                "--rollout-gpus and --tensor-parallel need --nodes 1: engines of several GPUs, or on GPUs of "
                "their own, are on the host of the first rank"
            )
        if not beside and options.ranks % parallel:
            raise InvalidSpec(
                f"--tensor-parallel is {parallel}, but there are {options.ranks} ranks: give a divisor"
            )
        multiple = 1 if beside else parallel
        return Wanted(options.ranks, least, options.nodes, not options.cpu, beside, multiple)

    def paths(self) -> list[str]:
        """What of the specification has to be on each host. Raises InvalidSpec."""
        if self._options.trainer != OWN:
            return []  # what that reads is its own affair
        try:
            spec = RunSpec.model_validate_json(self._options.spec.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidSpec(f"{self._options.spec}: {error}") from error
        parts = (spec.model, spec.training_data, spec.validation_data)
        paths = [*(getattr(part, "path", None) for part in parts), spec.evaluation.embedding_model]
        return [path for path in paths if path is not None]

    def run(self, wanted: Wanted, paths: list[str]) -> int:
        """The exit code. Raises TrainerError."""
        placed = place(wanted, self._tell, self._beat, self._stop)
        if placed is None:
            return EXIT_STOPPED
        group, places = placed
        gang = Gang(group, places, wanted)
        try:
            with self._token() as token:
                gang.examine(token, paths, self._warn)
            self._tell(f"The ranks are placed on hosts of the Ray cluster: {gang.described}.")
            gang.start(self._command(), for_another_host(os.environ))
            return self._concluded(gang.follow(self._stop, self._dump))
        finally:
            gang.end()

    def fail(self, error: TrainerError) -> int:
        """Tell why it cannot go on; the exit code."""
        _log.error("%s", error)
        self._write(Failed(code=error.code, message=str(error), param=error.param))
        return EXIT_INVALID if isinstance(error, InvalidSpec) else EXIT_FAILED

    def _concluded(self, end: End) -> int:
        """By what the first rank has told, unless it was lost, or another one, of which it knows less."""
        told, code = self._last_event(), end.codes[0]
        if isinstance(told, Finished):
            return EXIT_FINISHED if code is None or code < 0 else code
        # On a host that Ray alone has lost the guard ends the trainer, which then tells that it was stopped.
        if isinstance(told, Stopped) and (end.lost is None or self._stop.is_set()):
            return EXIT_STOPPED
        if end.lost is not None and (not isinstance(told, Failed) or told.code == RankLost.code):
            return self.fail(HostLost(end.lost.reason) if end.lost.host else RankLost(end.lost.reason))
        if isinstance(told, Failed):
            return EXIT_FAILED if code is None or code <= 0 else code
        if code is None or code < 0:
            ended = f"was ended by signal {-code}" if code else "did not end with the others"
            return self.fail(RankLost(f"rank 0 on {end.first_host} {ended}"))
        return code

    def _last_event(self) -> Event | None:
        """The last line of the events, if it is one that tells of something."""
        try:
            with self._events.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL_BYTES))
                lines = file.read().splitlines()
            return parse_event(lines[-1]) if lines else None
        except (OSError, ValidationError):
            return None

    # --- what is told, and where --------------------------------------------------------------------------

    def _write(self, event: Event) -> None:
        """Before the ranks' start and after their end: in between the first rank writes."""
        with EventWriter(self._events) as events:
            events.write(event)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._write(MessageEvent(message=text))

    def _warn(self, text: str) -> None:
        self._write(MessageEvent(level="warn", message=text))

    def _beat(self) -> None:
        if (now := time.monotonic()) >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._write(Phase(step=0, phase=PHASE))

    def _command(self) -> list[str]:
        options = self._options
        arguments = ["--spec", str(options.spec.absolute()), "--run-dir", str(self._run_dir)]
        arguments += ["--events", options.events, "--attempt", str(options.attempt)]
        return [*options.trainer, *arguments]

    @contextmanager
    def _token(self) -> Iterator[Path]:
        """A file by which a host is known to see the run directory."""
        token = self._run_dir / f".seen-{secrets.token_hex(8)}"
        token.touch()
        try:
            yield token
        finally:
            token.unlink(missing_ok=True)
