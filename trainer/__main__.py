"""``python -m trainer --spec spec.json --run-dir DIR``: one run, with or without the service.

Exit codes: 0 finished, 75 stopped by SIGTERM and resumable (run it again to go on), 74 the disk is full
(resumable once there is room), 2 a spec that cannot work, 1 anything else. The last line of the events file
says the same with the reason. SIGUSR1 has the stacks of all threads written to ``stacks-<attempt>.txt``.

``torchrun --nproc-per-node N -m trainer …`` trains the run on N ranks (``trainer.ranks``). Each ends with
such a code; torchrun itself ends with 0 or 1, and the events file, which the first rank writes, says why.
"""

import argparse
import errno
import faulthandler
import os
import signal
import sys
import threading
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydantic import ValidationError

from trainer.end_of_group import end_group
from trainer.errors import DiskFull, EngineFailed, InvalidSpec, RankLost, RunDirBusy, TrainerError
from trainer.events import EventWriter, Failed
from trainer.run_lock import sole_trainer
from trainer.spec import RunSpec

EXIT_FINISHED, EXIT_FAILED, EXIT_INVALID, EXIT_DISK_FULL, EXIT_STOPPED = 0, 1, 2, 74, 75
#: What the system says when there is no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> int:
    """Run the trainer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Train one run to its end.")
    parser.add_argument("--spec", type=Path, required=True, help="the run's specification, JSON")
    parser.add_argument("--run-dir", type=Path, required=True, help="where events, checkpoints and state go")
    parser.add_argument(
        "--events", default="events.jsonl", help="name of the events file in the run directory"
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when standard input does: its owner has died"
    )
    parser.add_argument(
        "--attempt", type=int, default=0, help="of several trainers in a run directory the highest one stays"
    )
    parser.add_argument(
        "--replay",
        type=int,
        metavar="STEP",
        help="do this one step again, from the nearest state before it; writes replay-STEP.json alone",
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if options.exit_with_parent:
        threading.Thread(target=_die_at_end_of_input, name="parent-watch", daemon=True).start()
    # Threads that wait for work spin for a moment, then sleep. Always spinning made a step up to ten times
    # slower on a machine that other processes share; sleeping at once, a third slower on a quiet one. To be
    # set before torch is imported; GNU's OpenMP reads the second, others the first.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if options.replay is not None:
        return _replay(options)
    first = int(os.environ.get("RANK", "0")) == 0
    stacks = None
    if first:
        options.run_dir.mkdir(parents=True, exist_ok=True)
        stacks = (options.run_dir / stacks_name(options.attempt)).open("wb")
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    try:
        with _sole(options, first):
            return _run(options, first, stop)
    except RunDirBusy as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    finally:
        if stacks is not None:
            faulthandler.unregister(signal.SIGUSR1)
            stacks.close()


def stacks_name(attempt: int) -> str:
    """The file in the run directory that SIGUSR1 has stacks written to."""
    return f"stacks-{attempt}.txt"


def _run(options: argparse.Namespace, first: bool, stop: threading.Event) -> int:
    with EventWriter(options.run_dir / options.events if first else Path(os.devnull)) as events:

        def lost(reason: str) -> None:
            os._exit(_fail(events, EXIT_FAILED, RankLost.code, reason))

        try:
            spec = RunSpec.model_validate_json(options.spec.read_bytes())
        except (OSError, ValidationError) as error:
            return _fail(events, EXIT_INVALID, InvalidSpec.code, f"{options.spec}: {error}")
        try:
            from trainer.loop import Run  # torch and transformers take seconds to import
            from trainer.ranks import join_ranks

            with join_ranks(lost) as ranks:
                finished = Run(spec, options.run_dir, events, stop, ranks=ranks).run()
        except TrainerError as error:
            code = EXIT_INVALID if isinstance(error, InvalidSpec) else EXIT_FAILED
            return _fail(events, code, error.code, str(error), error.param)
        except MemoryError as error:
            return _fail(events, EXIT_FAILED, "out_of_memory", f"out of memory: {error}")
        except Exception as error:
            if _no_room(error):
                return _fail(events, EXIT_DISK_FULL, DiskFull.code, f"the disk is full: {error}")
            traceback.print_exc()
            out_of_memory = type(error).__name__ == "OutOfMemoryError"
            engine_failed = EngineFailed.code if isinstance(error, EngineFailed) else "internal_error"
            code = "out_of_memory" if out_of_memory else engine_failed
            return _fail(events, EXIT_FAILED, code, f"{type(error).__name__}: {error}")
    return EXIT_FINISHED if finished else EXIT_STOPPED


def _replay(options: argparse.Namespace) -> int:
    from trainer.replay import replay

    spec = RunSpec.model_validate_json(options.spec.read_bytes())
    result = replay(spec, options.run_dir, options.replay)
    path = options.run_dir / f"replay-{options.replay}.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(result.model_dump_json())
    temporary.replace(path)
    return EXIT_FINISHED


def _sole(options: argparse.Namespace, first: bool) -> AbstractContextManager[None]:
    """The run directory is this attempt's: whoever trained in it before has ended."""
    if not first:
        return nullcontext()

    def superseded() -> None:
        print("a newer attempt has begun: this one is over", file=sys.stderr)
        end_group()

    return sole_trainer(options.run_dir, options.attempt, superseded)


def _no_room(error: BaseException | None) -> bool:
    """Whether a full disk is behind it; safetensors says so in words alone."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in NO_ROOM) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(events: EventWriter, exit_code: int, code: str, message: str, param: str | None = None) -> int:
    print(message, file=sys.stderr)
    try:
        events.write(Failed(code=code, message=message, param=param))
    except OSError as error:
        if not _no_room(error):
            raise
        return EXIT_DISK_FULL
    return exit_code


def _die_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    end_group()


if __name__ == "__main__":
    sys.exit(main())
