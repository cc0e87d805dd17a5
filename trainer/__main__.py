"""``python -m trainer --spec spec.json --run-dir DIR``: one run, with or without the service.

Exit codes: 0 finished, 75 stopped by SIGTERM and resumable (run it again to go on), 2 a spec that cannot
work, 1 anything else. The last line of the events file says the same with the reason.

``torchrun --nproc-per-node N -m trainer …`` trains the run on N ranks (``trainer.ranks``). Each ends with
such a code; torchrun itself ends with 0 or 1, and the events file, which the first rank writes, says why.
"""

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from pydantic import ValidationError

from trainer.errors import InvalidSpec, RankLost, TrainerError
from trainer.events import EventWriter, Failed
from trainer.spec import RunSpec

EXIT_FINISHED, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED = 0, 1, 2, 75


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
    first = int(os.environ.get("RANK", "0")) == 0
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
            traceback.print_exc()
            out_of_memory = type(error).__name__ == "OutOfMemoryError"
            code = "out_of_memory" if out_of_memory else "internal_error"
            return _fail(events, EXIT_FAILED, code, f"{type(error).__name__}: {error}")
    return EXIT_FINISHED if finished else EXIT_STOPPED


def _fail(events: EventWriter, exit_code: int, code: str, message: str, param: str | None = None) -> int:
    events.write(Failed(code=code, message=message, param=param))
    print(message, file=sys.stderr)
    return exit_code


def _die_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
