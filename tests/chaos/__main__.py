"""``make chaos``: seeded trials on both pairs, and what came of them.

    python -m tests.chaos --trials 30 --seed 0 --record trials.jsonl

Parts: ``trials`` with the scripted trainer, ``real`` ones with the real one on a tiny model, ``rolling``
restarts under load, and ``kills``: runs killed at random instants against one that nobody killed. What fails
prints its seed, and the command ends with 1 once all have run.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.kill_points import KilledRuns
from tests.chaos.rolling import roll
from tests.chaos.system import Pair, System, clean_up_on_sigterm, running_system
from tests.chaos.trial import REAL_TRAINER, run_real_trial, run_trial
from tests.fixtures.databases import postgres_server
from tests.fixtures.models import build_tiny_model

PARTS = ("trials", "real", "rolling", "kills")
#: Trials after which a system is thrown away: its database and its memory start anew.
TRIALS_A_SYSTEM = 25
Line = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break the service and look.")
    parser.add_argument("--trials", type=int, default=30, help="on each pair")
    parser.add_argument(
        "--real", type=int, default=4, help="of the trials with the real trainer, on each pair"
    )
    parser.add_argument("--kills", type=int, default=10, help="runs that are killed, with and without LoRA")
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count up")
    parser.add_argument("--pair", choices=["embedded", "external", "both"], default="both")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--record", type=Path, help="a JSON line a trial is appended to this file")
    options = parser.parse_args()
    clean_up_on_sigterm()
    pairs: list[Pair] = ["embedded", "external"] if options.pair == "both" else [options.pair]
    lines: list[Line] = []
    with contextlib.ExitStack() as stack:
        needs_server = "external" in pairs and set(options.parts) - {"kills"}
        postgres = stack.enter_context(postgres_server()) if needs_server else None
        for line in _all(options, pairs, postgres):
            lines.append(line)
            print(json.dumps(line), flush=True)
            if options.record:
                with options.record.open("a") as record:
                    record.write(json.dumps(line) + "\n")
    return _summary(lines)


def _all(options: argparse.Namespace, pairs: list[Pair], postgres: str | None) -> Iterator[Line]:
    for pair in pairs:
        if "trials" in options.parts:
            seeds = list(range(options.seed, options.seed + options.trials))
            yield from _on_systems(pair, postgres, seeds, run_trial)
        if "real" in options.parts:
            seeds = list(range(options.seed, options.seed + options.real))
            yield from _on_systems(
                pair, postgres, seeds, run_real_trial, POLICYSPLIT_TRAINER_COMMAND=REAL_TRAINER
            )
        if "rolling" in options.parts:
            with running_system(pair, postgres=postgres, apis=3, workers=3) as system:
                build_tiny_model(system.model)
                yield _tried("rolling", pair, options.seed, lambda system=system: roll(system), system)
    if "kills" in options.parts:
        yield from _kills(options)


def _on_systems(
    pair: Pair, postgres: str | None, seeds: list[int], trial: Callable[[System, int], Any], **settings: Any
) -> Iterator[Line]:
    part = "real" if settings else "trials"
    while seeds:
        with running_system(pair, postgres=postgres, **settings) as system:
            build_tiny_model(system.model, spread=0.3)
            for _ in range(min(TRIALS_A_SYSTEM, len(seeds))):
                seed = seeds.pop(0)
                line = _tried(part, pair, seed, lambda seed=seed: trial(system, seed), system)
                yield line
                if line["outcome"] == "failed":
                    break  # the next trial gets a system that is whole


def _kills(options: argparse.Namespace) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_model(Path(folder) / "tiny")
        for lora in (False, True):
            runs = KilledRuns(Path(folder) / f"lora-{lora}", model, lora=lora, seed=options.seed)
            for number in range(options.kills):
                pair = "lora" if lora else "weights"
                yield _tried("kills", pair, options.seed, lambda n=number, r=runs: r.kill(n)[0])


def _tried(part: str, pair: str, seed: int, action: Callable[[], Any], system: System | None = None) -> Line:
    line: Line = {"part": part, "outcome": "held", "pair": pair, "seed": seed}
    try:
        return line | asdict(action())
    except Exception as error:
        traceback.print_exc()
        line |= {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}
    if system is not None:
        logs = Path(tempfile.mkdtemp(prefix=f"chaos-{pair}-{seed}-"))
        for log in system.folder.glob("*.log"):
            shutil.copy(log, logs)
        line["logs"] = str(logs)
    print(f"FAILED: {part}, {pair}, seed {seed}", flush=True)
    return line


def _summary(lines: list[Line]) -> int:
    for part in PARTS:
        own = [line for line in lines if line["part"] == part]
        if not own:
            continue
        failed = [line for line in own if line["outcome"] == "failed"]
        of = ", ".join(f"{count} {pair}" for pair, count in Counter(line["pair"] for line in own).items())
        print(f"{part}: {len(own)} ({of}), {len(failed)} failed")
        for line in failed:
            print(
                f"  again: python -m tests.chaos --parts {part} --pair {line['pair']} --seed {line['seed']}"
            )
        for name, counter in (("faults", _count(own, "faults")), ("attempts ended", _count(own, "ends"))):
            if counter:
                print(f"  {name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counter.items())))
    return int(any(line["outcome"] == "failed" for line in lines))


def _count(lines: list[Line], name: str) -> Counter[str]:
    counter: Counter[str] = Counter()
    for line in lines:
        counter.update(line.get(name, ()))
    return counter


if __name__ == "__main__":
    sys.exit(main())
