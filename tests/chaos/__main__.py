"""``make chaos``: many seeded trials on both pairs, and what came of them.

    python -m tests.chaos --trials 50 --seed 0 --record trials.jsonl

A trial that fails prints its seed and ends the command with 1 once all have run; the same trial again:
``--pair embedded --seed SEED --trials 1``.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.system import Pair, System, running_system
from tests.chaos.trial import run_trial
from tests.fixtures.databases import postgres_server
from tests.fixtures.models import build_tiny_model

#: Trials after which a system is thrown away: its database and its memory start anew.
TRIALS_A_SYSTEM = 25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break the service and look.")
    parser.add_argument("--trials", type=int, default=30, help="on each pair")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count up")
    parser.add_argument("--pair", choices=["embedded", "external", "both"], default="both")
    parser.add_argument("--record", type=Path, help="a JSON line a trial is appended to this file")
    options = parser.parse_args()
    pairs: list[Pair] = ["embedded", "external"] if options.pair == "both" else [options.pair]
    lines: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(postgres_server()) if "external" in pairs else None
        for pair in pairs:
            seeds = list(range(options.seed, options.seed + options.trials))
            while seeds:
                with running_system(pair, postgres=postgres) as system:
                    build_tiny_model(system.model)
                    for _ in range(min(TRIALS_A_SYSTEM, len(seeds))):
                        line = _trial(system, seeds.pop(0))
                        lines.append(line)
                        print(json.dumps(line), flush=True)
                        if options.record:
                            with options.record.open("a") as record:
                                record.write(json.dumps(line) + "\n")
                        if line["outcome"] == "failed":
                            break  # the next trial gets a system that is whole
    return _summary(lines)


def _trial(system: System, seed: int) -> dict[str, Any]:
    try:
        return {"outcome": "held", **asdict(run_trial(system, seed))}
    except Exception as error:
        traceback.print_exc()
        logs = Path(tempfile.mkdtemp(prefix=f"chaos-{system.pair}-{seed}-"))
        for log in system.folder.glob("*.log"):
            shutil.copy(log, logs)
        print(f"FAILED: pair {system.pair}, seed {seed}; logs in {logs}", flush=True)
        text = f"{type(error).__name__}: {error}"
        return {"outcome": "failed", "pair": system.pair, "seed": seed, "error": text}


def _summary(lines: list[dict[str, Any]]) -> int:
    failed = [line for line in lines if line["outcome"] == "failed"]
    ends: Counter[str] = Counter()
    for line in lines:
        ends.update(line.get("ends", {}))
    by_fault = Counter(name for line in lines for name in line.get("faults", ()))
    jobs, attempts = (sum(line.get(name, 0) for line in lines) for name in ("jobs", "attempts"))
    print(f"{len(lines)} trials, {len(failed)} failed; {jobs} jobs in {attempts} attempts")
    print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(by_fault.items())))
    print("attempts ended: " + ", ".join(f"{name} {count}" for name, count in sorted(ends.items())))
    for line in failed:
        print(f"again: python -m tests.chaos --pair {line['pair']} --seed {line['seed']} --trials 1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
