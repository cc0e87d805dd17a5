"""From the committed results to answers/REPORT.md and the studies' pages: whatever came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.experiments.page import better, p_value, report_page, spread
from study.answers.design import OUTCOMES, PAIRS, Outcome, Pair, pair_plan
from study.answers.rule import two_modes_beat_one
from study.report import comparison_table, machine_notes, results_by_hash, run_results
from study.studies import HERE, OF_ANSWERS, RESULTS, Study
from trainer.statistics.analysis import analyse
from trainer.statistics.run_results import Analysis, RunResult
from trainer.statistics.wording import interval_ends, signed

_HEAD = """# Different right answers: what came out

Written by `python -m study report` from the files in `../results/`; what would be measured was committed
beforehand in [PREREGISTRATION.md](PREREGISTRATION.md) and
[PREREGISTRATION-smollm2.md](PREREGISTRATION-smollm2.md).
"""
_WORDS = {
    True: "two modes beat one mode with uniqueness",
    False: "one mode with uniqueness may do as much",
    None: "not decided",
}


def write_report(results: Path = RESULTS, folder: Path = HERE / "answers") -> dict[str, Analysis]:
    """Write all files; of each study the analysis of its first outcome."""
    folder.mkdir(exist_ok=True)
    parts, firsts = [_HEAD], {}
    for name, study in OF_ANSWERS.items():
        found = results_by_hash(results / f"{name}.jsonl")
        runs = run_results(study.runs(None), found)
        firsts[name], section = _section(study, runs, list(found.values()))
        page = report_page({"experiment": {"name": study.title}} | firsts[name])
        (folder / f"report-{name}.html").write_text(page)
        parts += section
    (folder / "REPORT.md").write_text("\n".join(parts).rstrip() + "\n")
    return firsts


def _section(
    study: Study, runs: Sequence[RunResult], results: Sequence[dict[str, Any]]
) -> tuple[Analysis, list[str]]:
    first_pair = PAIRS[0]
    analyses = {outcome: analyse(_plan(study, outcome), runs) for outcome in OUTCOMES}
    first = analyses[OUTCOMES[0]]
    progress = first["progress"]
    parts = [
        f"## {study.title}\n",
        f"{progress['succeeded']} of {progress['runs']} runs have succeeded, {progress['failed']} failed, "
        f"{progress['waiting']} are still to be done."
        + (" **Every figure is provisional until all are.**" if progress["waiting"] else "")
        + f" All arms and runs are in `report-{study.name}.html`.\n",
        "### Do two modes beat one mode with uniqueness?\n",
        *_ruled(first_pair, analyses),
    ]
    arms = {run.arm for run in runs}
    for pair in PAIRS[1:]:
        if {pair.two_modes, pair.one_mode} <= arms:
            own = [run for run in runs if run.arm in (pair.two_modes, pair.one_mode)]
            parts += _ruled(pair, {outcome: analyse(pair_plan(pair, outcome), own) for outcome in OUTCOMES})
    for task in first["plan"]["tasks"]:
        parts += [f"### {task}\n", _arms(task, analyses)]
    for outcome, analysis in analyses.items():
        parts += [f"### Against every other arm: {outcome.words}\n", _against(analysis)]
    notes = [*first["notes"], *machine_notes(results)]
    return first, [*parts, "### Notes\n", *(f"- {line}" for line in notes), ""]


def _plan(study: Study, outcome: Outcome) -> Any:
    return study.plan().model_copy(update={"metric": outcome.metric, "mode": outcome.mode})


def _ruled(pair: Pair, analyses: Mapping[Outcome, Analysis]) -> list[str]:
    """The rule on each task, and the comparisons that it reads."""
    lines = [f"{pair.two_modes} against {pair.one_mode}, at equal samples and equal tokens trained.\n"]
    variety, accuracy = (analyses[outcome] for outcome in OUTCOMES[:2])
    for task in variety["plan"]["tasks"]:
        claimed, reasons = two_modes_beat_one(_claim(variety, task), _claim(accuracy, task))
        lines.append(f"- **{task}: {_WORDS[claimed]}.** {'; '.join(reasons)}.")
    for outcome, analysis in analyses.items():
        if analysis["claims"]:
            lines += [f"\n{outcome.words}:\n", comparison_table(analysis["claims"])]
    return [*lines, ""]


def _claim(analysis: Analysis, task: str) -> dict[str, Any] | None:
    return next((one for one in analysis["claims"] if one["task"] == task), None)


def _arms(task: str, analyses: Mapping[Outcome, Analysis]) -> str:
    """Each arm's outcomes on a task, and what it cost."""
    lines = [
        "Means over seeds ± their standard deviation, on the test items.\n",
        "| arm | "
        + " | ".join(outcome.words for outcome in analyses)
        + " | seeds | samples | tokens trained "
        "| core s |",
        "|---" * (5 + len(analyses)) + "|",
    ]
    by_outcome = [
        {one["arm"]: one for one in analysis["arms"] if one["task"] == task and one["seeds"]}
        for analysis in analyses.values()
    ]
    for arm, one in by_outcome[0].items():
        cells = [spread(found[arm], found[arm]["test"], ".3f") for found in by_outcome]
        cost = [
            f"{one['cost'][name]['mean']:,.0f}" for name in ("samples_generated", "tokens_trained", "seconds")
        ]
        lines.append("| " + " | ".join([arm, *cells, str(len(one["seeds"])), *cost]) + " |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else "No run has ended yet.\n"


def _against(analysis: Analysis) -> str:
    method = analysis["plan"]["method"]
    lines = [
        f"| task | {method} − arm | Δ, with its own 95 % interval | p | Holm p | better |",
        "|---|---|---|---|---|---|",
    ]
    for one in analysis["against_method"]:
        delta = f"{signed(one['delta'])} [{interval_ends(one['low'], one['high'])}]"
        lines.append(
            f"| {one['task']} | {one['baseline']} | {delta} | {p_value(one['p'])} | {one['holm_p']:.3g} "
            f"| {better(one)} |"
        )
    return "\n".join(lines) + "\n" if len(lines) > 2 else "Nothing to compare yet.\n"
