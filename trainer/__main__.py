"""``python -m trainer --spec spec.json --run-dir DIR``: one run, with or without the service.

Exit codes: 0 finished, 75 stopped by SIGTERM and resumable (run it again to resume), 74 the disk is full
(resumable once there is room), 2 a spec that cannot work, 1 anything else. The last line of the events file
says the same with the reason. SIGUSR1 has the stacks of all threads written to ``stacks-<attempt>.txt``.

``--ranks N`` trains the run on N processes of this host (``trainer.distributed.launch``), and ends with the
code of the first one, which writes the events file. So does ``torchrun --nproc-per-node N -m trainer …``, but
for the code: torchrun itself ends with 0 or 1. Ranks beyond the first write their stacks beside its.
"""

import argparse
import errno
import faulthandler
import importlib.util
import logging
import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pydantic import ValidationError

from trainer.errors import DiskFull, EngineFailed, InvalidSpec, RankLost, RunDirBusy, TrainerError, rank_lost
from trainer.spec.events import EventWriter, Failed, MessageEvent
from trainer.spec.run import RunSpec
from trainer.spec.run_arguments import add_run_arguments
from trainer.system import logs
from trainer.system.files import write_atomically
from trainer.system.guard import end_self
from trainer.system.heap import keep_freed_memory
from trainer.system.imports import large_imports
from trainer.system.run_lock import sole_trainer

EXIT_FINISHED, EXIT_FAILED, EXIT_INVALID, EXIT_DISK_FULL, EXIT_STOPPED = 0, 1, 2, 74, 75
#: What helps where memory runs out: a prompt's responses, in all modes, are one forward pass.
LESS_MEMORY = (
    "A prompt's responses are scored together: reduce rollout.samples_per_prompt or "
    "rollout.max_response_tokens, or set gradient_checkpointing; with rows, reduce max_tokens"
)
_log = logging.getLogger("trainer")
#: What the system says when there is no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> int:
    """Run the trainer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Train one run to its end.")
    add_run_arguments(parser)
    parser.add_argument(
        "--replay",
        type=int,
        metavar="STEP",
        help="repeat only this step, from the nearest earlier state; writes only replay-STEP.json",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="number of processes to train with on this machine, one per GPU",
    )
    options = parser.parse_args(arguments)
    logs.set_up("trainer", "%(message)s", logging.WARNING)
    # Threads that wait for work spin for a moment, then sleep. Always spinning made a step up to ten times
    # slower on a machine that other processes share; sleeping at once, a third slower on a quiet one. To be
    # set before torch is imported; GNU's OpenMP reads the second, others the first.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if options.ranks > 1 and (code := _launch(options)) is not None:
        return code
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if options.replay is not None:
        return _replay(options)
    rank = int(os.environ.get("RANK", "0"))
    options.run_dir.mkdir(parents=True, exist_ok=True)
    with (options.run_dir / stacks_name(options.attempt, rank)).open("wb") as stacks:
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        try:
            with _sole(options, rank == 0):
                return _run(options, rank == 0, stop)
        except RunDirBusy as error:
            _log.error("%s", error)
            return EXIT_FAILED
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def _launch(options: argparse.Namespace) -> int | None:
    """Train on several ranks here; the exit code, or None in each of the ranks."""
    if importlib.util.find_spec("torch") is None:
        return None  # which is told below, as for one process
    share = max(1, len(os.sched_getaffinity(0)) // options.ranks) if hasattr(os, "sched_getaffinity") else 1
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
    from trainer.distributed.launch import hold_signals, launch

    hold_signals()
    with large_imports():
        importlib.import_module("trainer.loop")
    ended = launch(options.ranks)
    if ended is None or ended.exit_code >= 0:
        return None if ended is None else ended.exit_code
    with EventWriter(options.run_dir / options.events) as events:
        return _fail(events, EXIT_FAILED, RankLost.code, ended.lost or "the first rank was ended")


def stacks_name(attempt: int, rank: int = 0) -> str:
    """The file in the run directory that SIGUSR1 has a rank's stacks written to."""
    return f"stacks-{attempt}.txt" if rank == 0 else f"stacks-{attempt}-rank{rank}.txt"


def _run(options: argparse.Namespace, first: bool, stop: threading.Event) -> int:
    with EventWriter(options.run_dir / options.events if first else Path(os.devnull)) as events:

        def lost(reason: str) -> None:
            os._exit(_fail(events, EXIT_FAILED, rank_lost(reason).code, reason))

        try:
            spec = RunSpec.model_validate_json(options.spec.read_bytes())
        except (OSError, ValidationError) as error:
            return _fail(events, EXIT_INVALID, InvalidSpec.code, f"{options.spec}: {error}")
        if importlib.util.find_spec("torch") is None:
            return _fail(
                events,
                EXIT_INVALID,
                InvalidSpec.code,
                "torch is not installed here: install the extra policysplit[trainer] where the worker runs",
            )
        try:
            with large_imports():  # torch and transformers take seconds
                from trainer.distributed.busy_gpus import busy_gpus
                from trainer.distributed.ranks import join_ranks
                from trainer.distributed.same_code import check_same_code
                from trainer.loop import build_run

            with join_ranks(lost) as ranks:
                check_same_code(ranks)
                for text in busy_gpus(ranks):
                    events.write(MessageEvent(level="warn", message=text))
                finished = build_run(spec, options.run_dir, events, stop, ranks=ranks).run()
        except TrainerError as error:
            code = EXIT_INVALID if isinstance(error, InvalidSpec) else EXIT_FAILED
            return _fail(events, code, error.code, str(error), error.param)
        except MemoryError as error:
            return _fail(events, EXIT_FAILED, "out_of_memory", f"out of memory: {error}. {LESS_MEMORY}")
        except Exception as error:
            if _no_room(error):
                return _fail(events, EXIT_DISK_FULL, DiskFull.code, f"the disk is full: {error}")
            _log.exception("the run failed")
            out_of_memory = type(error).__name__ == "OutOfMemoryError"
            engine_failed = EngineFailed.code if isinstance(error, EngineFailed) else "internal_error"
            code = "out_of_memory" if out_of_memory else engine_failed
            what = f"{type(error).__name__}: {error}"
            return _fail(events, EXIT_FAILED, code, f"{what}. {LESS_MEMORY}" if out_of_memory else what)
    return EXIT_FINISHED if finished else EXIT_STOPPED


def _replay(options: argparse.Namespace) -> int:
    with large_imports():
        from trainer.replay import replay

    spec = RunSpec.model_validate_json(options.spec.read_bytes())
    result = replay(spec, options.run_dir, options.replay)
    write_atomically(options.run_dir / f"replay-{options.replay}.json", result.model_dump_json())
    return EXIT_FINISHED


def _sole(options: argparse.Namespace, first: bool) -> AbstractContextManager[None]:
    """The run directory is this attempt's: whoever trained in it before has ended."""
    if not first:
        return nullcontext()

    def superseded() -> None:
        _log.warning("a newer attempt has started: this one ends")
        end_self()

    return sole_trainer(options.run_dir, options.attempt, superseded)


def _no_room(error: BaseException | None) -> bool:
    """Whether a full disk is behind it; safetensors says so in words alone."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in NO_ROOM) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(events: EventWriter, exit_code: int, code: str, message: str, param: str | None = None) -> int:
    _log.error("%s", message)
    try:
        events.write(Failed(code=code, message=message, param=param))
    except OSError as error:
        if not _no_room(error):
            raise
        return EXIT_DISK_FULL
    return exit_code


if __name__ == "__main__":
    keep_freed_memory()  # the whole process's: not where ``main`` is called by another program
    sys.exit(main())
