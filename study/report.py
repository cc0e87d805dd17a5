"""From the committed results to REPORT.md and a page for each study: whatever came out."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.experiments.charts import standalone, task_charts
from app.experiments.page import adjusted, better, number, p_value, report_page, size_needed, spread
from study.before import side_by_side
from study.hypotheses import hypotheses
from study.planned_run import PlannedRun
from study.results import read_results
from study.runner import TUNING, tuned_rate
from study.studies import HERE, OF_THE_METHOD, RESULTS, Study
from trainer.statistics.analysis import analyse
from trainer.statistics.run_results import Analysis, RunResult
from trainer.statistics.wording import interval_ends, signed

#: The paper's table (accuracy in percent, mean of five benchmarks): normal mode, and high-entropy mode.
PAPER = (
    ("1.7B", "56.08", "55.94", "56.71", "56.78", "53.18"),
    ("4B", "70.00", "70.00", "71.02", "71.75", "70.47"),
    ("8B", "73.94", "74.27", "74.50", "75.15", "71.49"),
)
_HEAD = """# What came out

Written by `python -m study report` from the files in `results/`; what would be measured was committed
beforehand in [PREREGISTRATION.md](PREREGISTRATION.md).

The results are those of the first publication, to the bit; the rule that judges them has changed since. The
first one's p took the trained models as given and flipped signs over items: in simulated experiments in which
seeds differ and methods do not it named a false winner or loser in more than half of the reports. Now seeds
and items are both drawn from many, in p and interval alike, and all that a report says errs in 5 % together
([docs/oracles.md](../docs/oracles.md) has both rules on the same simulated experiments). Each study ends with
every comparison by both. No run was done again, and none was left out.
"""
_FOOT = (
    "## The authors' table, for orientation\n",
    "Accuracy in percent, mean of MATH500, AIME24/25, GPQA-D and MMLU-Pro, as the paper prints it (arXiv "
    "2604.11510), without seeds or spread. Nothing above can be compared with it, and nothing above "
    "extrapolates to it.\n",
    "| model | base | GRPO | entropy advantage | Policy Split, N | Policy Split, H |",
    "|---|---|---|---|---|---|",
    *(f"| {' | '.join(row)} |" for row in PAPER),
    "\nOne run again, bit for bit: `python -m study reproduce HASH`, with a hash from a report's page, or "
    "a line of a file in `results/`.",
)
_FIGURES = (
    ("entropy of N, nats", "eval/N/entropy_nats"),
    ("entropy of H, nats", "eval/H/entropy_nats"),
    ("KL(H‖N), H's prefixes", "eval/kl_H_N/prefix_H"),
    ("KL(N‖H), N's prefixes", "eval/kl_N_H/prefix_N"),
    ("cos(g_N, g_H)", "diag/grad_cos"),
    ("cos(g_N, g_bonus)", "diag/grad_cos_bonus"),
    ("‖g_bonus‖ / ‖g_acc‖", "diag/grad_bonus_ratio"),
    ("layers in conflict", "diag/grad_conflict_rate"),
    ("… permuted", "diag/grad_conflict_rate_null"),
    ("solved by H alone", "eval/only_H"),
    ("… second draw of N", "eval/only_second_draw_N"),
)
_HIDDEN = {"cos": "cosine", "cka": "CKA"}
_NEUTRAL = "… of N and a neutral prompt"


#: Of each task, what is drawn in REPORT.md: a name for the file, the chart, and what is to be seen.
_PICTURES = (
    ("differences", "differences", "policy_split − each arm"),
    ("accuracy", "eval/N/accuracy", "accuracy of the normal mode over training"),
    ("entropy", "eval/H/entropy_nats", "entropy of the high-entropy mode over training"),
    ("pass-at-k", "pass@k/mix", "pass@k of both modes mixed"),
)


def write_report(results: Path = RESULTS, folder: Path = HERE, tuning: Path = TUNING) -> dict[str, Analysis]:
    """Write all files; the analyses that they show, by study."""
    rate = tuned_rate(tuning)
    analyses = {}
    parts = [_HEAD]
    for name, study in OF_THE_METHOD.items():
        found = results_by_hash(results / f"{name}.jsonl")
        runs = run_results(study.runs(rate), found)
        analyses[name] = analysis = analyse(study.plan(), runs)
        analysis["notes"].append("Seconds are one core's, of the whole run with its evaluations.")
        page = report_page({"experiment": {"name": f"Policy Split: {study.title}"}} | analysis)
        (folder / f"report-{name}.html").write_text(page)
        pictures = _draw(study, analysis, folder)
        parts += _section(study, analysis, runs, list(found.values()), pictures)
    (folder / "REPORT.md").write_text("\n".join([*parts, *_FOOT]) + "\n")
    return analyses


def results_by_hash(path: Path) -> dict[str, dict[str, Any]]:
    """The committed results of a study, by the hashes of their runs."""
    return {one["hash"]: one for one in read_results(path)}


def run_results(runs: Sequence[PlannedRun], found: Mapping[str, dict[str, Any]]) -> list[RunResult]:
    """Of each planned run what an analysis takes in, done or not."""
    return [_run_result(run.arm, run.task, run.seed, run.hash, found.get(run.hash)) for run in runs]


def _run_result(arm: str, task: str, seed: int, name: str, result: dict[str, Any] | None) -> RunResult:
    if result is None:
        return RunResult(arm=arm, task=task, seed=seed, status="waiting", id=name)
    return RunResult(
        arm=arm,
        task=task,
        seed=seed,
        status=result["status"],
        id=name,
        error=result["error"],
        outcomes=result["outcomes"],
        curves={name: [(step, value) for step, value in points] for name, points in result["curves"].items()},
        diagnostics=result["diagnostics"],
        **{key: result["cost"][key] for key in ("samples_generated", "tokens_generated", "tokens_trained")},
        # A run has one thread on a machine with other work: wall time would say nothing.
        seconds=result["cpu_seconds"],
    )


def _draw(study: Study, analysis: Analysis, folder: Path) -> dict[str, str]:
    """Write the pictures of each task; how REPORT.md shows them."""
    (folder / "figures").mkdir(exist_ok=True)
    shown = {}
    for task in analysis["plan"]["tasks"]:
        charts = task_charts(analysis, task)
        lines = []
        for name, chart, words in _PICTURES:
            path = folder / "figures" / f"{study.name}-{task}-{name}.svg"
            path.unlink(missing_ok=True)
            if charts[chart]:
                path.write_text(standalone(charts[chart]))
                lines.append(f"![{task}: {words}](figures/{path.name})")
        shown[task] = "\n".join(lines) + "\n"
    return shown


def _section(
    study: Study,
    analysis: Analysis,
    runs: Sequence[RunResult],
    results: Sequence[dict[str, Any]],
    pictures: dict[str, str],
) -> list[str]:
    progress = analysis["progress"]
    assert study.control is not None, "a study of the method has one"
    parts = [
        f"## {study.title}\n",
        f"{progress['succeeded']} of {progress['runs']} runs have succeeded, {progress['failed']} failed, "
        f"{progress['waiting']} are still to be done."
        + (" **Every figure is provisional until all are.**" if progress["waiting"] else "")
        + f" All arms, curves and runs are in `report-{study.name}.html`.\n",
        "### The claim\n",
        f"**{analysis['winner']['sentence']}**\n",
        comparison_table(analysis["claims"]),
        "### The hypotheses\n",
        hypotheses(analysis, runs, study.control),
        "### Do two modes help each other?\n",
        *(_rule(rule) for rule in analysis["synergy"]),
    ]
    for task in analysis["plan"]["tasks"]:
        parts += [f"### {task}\n", pictures[task], _arms(analysis, task), _figures(study, analysis, task)]
    parts += [
        "### Each comparison by the published rule and by the present one\n",
        side_by_side(analysis, runs),
    ]
    lines = [*analysis["notes"], *machine_notes(results)]
    return [*parts, "### Notes\n", *(f"- {line}" for line in lines), ""]


def comparison_table(found: Sequence[dict[str, Any]]) -> str:
    """Of comparisons as an analysis has them, in Markdown."""
    if not found:
        return "Nothing to compare yet.\n"
    lines = [
        "| task | method − baseline | Δ | interval of the verdict | p | Holm p | needs | better "
        "| these trained models, p | sd over seeds | items | seeds | detectable Δ "
        "| needed, seeds × items (seeds' spread) |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    ]
    for one in found:
        lines.append(
            f"| {one['task']} | {one['method']} − {one['baseline']} | {signed(one['delta'])} "
            f"| {adjusted(one)} | {one['p']:.4f} | {one['holm_p']:.4f} | ≤ {one['level']:g} | {better(one)} "
            f"| {p_value(one['these_models_p'])} | {number(one['seed_std'])} | {one['items']} "
            f"| {len(one['seeds'])} | {number(one['detectable'])} | {size_needed(one)} |"
        )
    return "\n".join(lines) + "\n"


def _rule(rule: dict[str, Any]) -> str:
    words = {True: "claimed", False: "not claimed", None: "not decided"}[rule["claimed"]]
    return f"**{rule['task']}: {words}.**\n" + "".join(f"\n- {reason}" for reason in rule["reasons"]) + "\n"


def _arms(analysis: Analysis, task: str) -> str:
    against = {one["baseline"]: one for one in analysis["against_method"] if one["task"] == task}
    lines = [
        "Normal mode's accuracy on the test items, pass@8 of each mode and of both mixed, and what "
        "policy_split's difference from the arm is, with its own 95 % interval.\n",
        "| arm | accuracy ± sd | seeds | pass@8 N | pass@8 H | pass@8 mixed | policy_split − arm | p "
        "| Holm p | better | tokens trained | core s |\n|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in (one for one in analysis["arms"] if one["task"] == task and one["seeds"]):
        other = against.get(arm["arm"])
        delta = (
            "–"
            if other is None
            else f"{signed(other['delta'])} [{interval_ends(other['low'], other['high'])}]"
        )
        name = arm["arm"] + (" (exploratory)" if arm["exploratory"] else "")
        lines.append(
            f"| {name} | {spread(arm, arm['test'], '.4f')} | {len(arm['seeds'])} "
            f"| {' | '.join(_at_8(arm, mode) for mode in ('N', 'H', 'mix'))} | {delta} "
            f"| {'– | – | –' if other is None else _verdict(other)} "
            f"| {arm['cost']['tokens_trained']['mean']:,.0f} | {arm['cost']['seconds']['mean']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _verdict(one: dict[str, Any]) -> str:
    return f"{p_value(one['p'])} | {one['holm_p']:.3g} | {better(one)}"


def _figures(study: Study, analysis: Analysis, task: str) -> str:
    """The figures that the method's critics ask for, of the arms with two modes."""
    arms = [one for one in analysis["arms"] if one["task"] == task and one["seeds"]]
    arms = [one for one in arms if one["arm"] in study.figures]
    arms = [one for one in arms if "eval/kl_H_N/prefix_H" in one["diagnostics"]]
    if not arms:
        return ""
    rows = [*_FIGURES, *_hidden(arms)]
    lines = [
        "Means over seeds ± their standard deviation; gradients over the run, the rest at its end.\n",
        f"| | {' | '.join(arm['arm'] for arm in arms)} |\n|---|{'---|' * len(arms)}",
    ]
    for label, name in rows:
        cells = [spread(arm, arm["diagnostics"].get(name), ".3f") for arm in arms]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _hidden(arms: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Similarity of hidden states, layer by layer: of the two modes and, beside it, of the control."""
    found = set[tuple[str, int, bool, str]]()
    for name in {name for arm in arms for name in arm["diagnostics"]}:
        if parts := re.fullmatch(r"diag/hidden_(cos|cka)(_neutral)?/L(\d+)", name):
            found.add((parts[1], int(parts[3]), parts[2] is not None, name))
    return [
        (_NEUTRAL if control else f"{_HIDDEN[kind]} of hidden states, layer {layer}", name)
        for kind, layer, control, name in sorted(found)
    ]


def _at_8(arm: dict[str, Any], mode: str) -> str:
    found = [point for point in arm["pass_at_k"].get(mode, []) if point["k"] == 8]
    return f"{found[0]['mean']:.3f}" if found else "–"


def machine_notes(results: Sequence[dict[str, Any]]) -> list[str]:
    """On what the runs were done, and what they took."""
    lines = []
    machines = sorted({json.dumps(one["machine"], sort_keys=True) for one in results})
    bases = {one["base_sha256"] for one in results}
    for machine in machines:
        about = json.loads(machine)
        lines.append(f"Run on {about['cpu']}, torch {about['torch']}, Python {about['python']}.")
    if len(bases) > 1:
        lines.append(f"**The runs began with {len(bases)} different base models: do not pool them.**")
    if results:
        cpu = sum(one["cpu_seconds"] for one in results)
        lines.append(
            f"{len(results)} runs took {cpu / 3600:.1f} core hours, {cpu / len(results):.0f} s each."
        )
    return lines
