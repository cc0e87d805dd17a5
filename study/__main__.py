"""``python -m study run | report | reproduce HASH``."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from study.planned_run import PlannedRun
from study.results import read_results
from study.runner import TUNING, run_missing, tuned_rate
from study.studies import RESULTS, STUDIES, WORK


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m study", description="Our study of the method.")
    commands = parser.add_subparsers(dest="command", required=True)
    doing = commands.add_parser("run", help="do the runs that have no result yet")
    doing.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    doing.add_argument("--hours", type=float, help="start no run after so long")
    doing.add_argument("--pause-file", type=Path, help="start no run while this file exists")
    doing.add_argument(
        "--only", choices=list(STUDIES), help="this study alone; without it all, one after the other"
    )
    commands.add_parser("report", help="write the reports and the studies' pages from the results")
    again = commands.add_parser("reproduce", help="do a run again, and compare it bit for bit")
    again.add_argument("hash", help="the run's, or its first characters")
    options = parser.parse_args(arguments)
    if options.command == "run":
        bounds = {"workers": options.workers, "hours": options.hours, "pause_file": options.pause_file}
        for name in [options.only] if options.only else STUDIES:
            run_study(name, bounds)
        return 0
    if options.command == "report":
        from study.answers.report import write_report as write_report_of_answers
        from study.report import write_report

        write_report()
        write_report_of_answers()
        return 0
    return reproduce(options.hash)


def run_study(name: str, bounds: dict[str, Any]) -> None:
    """Do the runs of a study that have no result; ``bounds``: see :func:`study.runner.run_missing`."""
    study = STUDIES[name]
    print(study.title, flush=True)
    rate = None
    if study.tuning:
        run_missing(study.tuning, results=TUNING, folder=study.work, **bounds)
        rate = tuned_rate()
        if rate is None:
            print("the learning rate is not chosen yet: continue with the same command")
            return
        print(f"learning rate {rate:g}", flush=True)
    done = run_missing(study.runs(rate), results=study.results, folder=study.work, **bounds)
    print(f"{done} runs done")


def reproduce(prefix: str, results: Path = RESULTS, folder: Path = WORK) -> int:
    """Do the run again from its committed document; 0 when weights and outcomes are the same bits."""
    found = [
        one
        for name in STUDIES
        for one in read_results(results / f"{name}.jsonl")
        if one["hash"].startswith(prefix)
    ]
    if len(found) != 1:
        print(f"{len(found)} results begin with {prefix!r}; give the hash of one", file=sys.stderr)
        return 2
    (old,) = found
    document = old["document"]
    run = PlannedRun(document["task"], document["arm"], document["seed"], document)
    assert run.hash == old["hash"], "the document is not the one that the hash names"
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "again.jsonl"
        run_missing([run], results=again, folder=folder / run.study, workers=1)
        (new,) = read_results(again)
    same = True
    for name in ("base_sha256", "weights_sha256", "outcomes_sha256", "curves", "diagnostics"):
        equal = old[name] == new[name]
        same = same and equal
        shown = "" if equal else f": {json.dumps(old[name])[:200]} then, {json.dumps(new[name])[:200]} now"
        print(f"{name}: {'the same' if equal else 'DIFFERENT'}{shown}")
    if not same:
        print(f"then: {old['machine']}\nnow:  {new['machine']}")
        print(
            "Other versions of torch, and processors of another architecture, round differently; the base "
            f"model is trained here, too. The run was done at commit {old['commit']}: what was changed since "
            "may round differently, too."
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
