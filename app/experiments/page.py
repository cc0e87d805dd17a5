"""A report as one HTML page that needs nothing else: no script, no style sheet, no image of another host."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from app.core.strict_json import JsonObject
from app.experiments.charts import CHART_STYLE, PALETTE, drawn_arms, task_charts
from trainer.statistics.run_results import Analysis
from trainer.statistics.wording import interval_ends, signed, typeset

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem}
body{color:var(--text);background:var(--paper)}
h1{font-size:1.6rem}h2{margin-top:2.2rem;border-bottom:1px solid var(--rule)}
table{border-collapse:collapse;font-size:13px;margin:.6rem 0}
td,th{padding:.2rem .55rem;border-bottom:1px solid var(--rule);text-align:right}
td{white-space:nowrap;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}.scroll{overflow-x:auto}
.verdict{background:var(--box);border-left:4px solid #0072b2;padding:.6rem 1rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(460px,100%),1fr));gap:1rem 2rem}
svg{max-width:100%;height:auto}
.bad{color:var(--bad)}.dim{color:var(--faint)}
"""
#: What the page may do when the service itself shows it: have a look of its own, and nothing else.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)


def report_page(report: Analysis) -> str:
    """The page."""
    plan, about = report["plan"], report.get("experiment", {})
    title = str(about.get("name", "Experiment"))
    parts = [
        f"<h1>{escape(title)}</h1>",
        _summary(report),
        "<h2>The claim</h2>",
        _claims(report["claims"]),
        "<h2>Do two modes help each other?</h2>",
        *map(_synergy, report["synergy"]),
        "<h2>The method against every other arm</h2>",
    ]
    for task in plan["tasks"]:
        parts += [f"<h3>{escape(task)}</h3>", *_task(report, task)]
    parts += ["<h2>Runs</h2>", _runs(report["runs"]), "<h2>How to read this</h2>", _legend(report)]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{PALETTE}{CHART_STYLE}{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _summary(report: Analysis) -> str:
    plan, progress = report["plan"], report["progress"]
    facts = (
        f"{len(plan['arms'])} arms, {len(plan['tasks'])} tasks, {len(plan['seeds'])} seeds; "
        f"{progress['succeeded']} of {progress['runs']} runs succeeded, {progress['failed']} failed; "
        f"metric {plan['metric']} of mode {plan['mode']}."
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    sentence = escape(report["winner"]["sentence"])
    return f'<p class="verdict">{sentence}</p><p>{escape(facts)}</p><ul>{notes}</ul>'


def _claims(claims: Sequence[JsonObject]) -> str:
    sentences = "".join(f"<li>{escape(one['verdict'])}</li>" for one in claims)
    return f"<ul>{sentences}</ul>{_comparisons(claims, with_task=True)}"


def _comparisons(found: Sequence[JsonObject], with_task: bool) -> str:
    if not found:
        return '<p class="dim">Nothing to compare yet.</p>'
    columns: list[tuple[str, Callable[[JsonObject], Any]]] = [
        *([("task", lambda one: one["task"])] if with_task else []),
        ("against", met),
        ("Δ", lambda one: signed(one["delta"])),
        ("95 % CI", lambda one: interval_ends(one["low"], one["high"])),
        ("CI of the verdict", adjusted),
        ("p", lambda one: p_value(one["p"])),
        ("Holm p (needs)", lambda one: f"{p_value(one['holm_p'])} (≤ {one['level']:g})"),
        ("better", better),
        ("these trained models, p", lambda one: p_value(one["these_models_p"])),
        ("sd over seeds", lambda one: number(one["seed_std"])),
        ("seeds × items", lambda one: f"{len(one['seeds'])} × {one['items']}"),
        ("detectable Δ", lambda one: number(one["detectable"])),
        ("needed (seeds' spread)", size_needed),
    ]
    return _table(columns, found)


def met(one: JsonObject) -> str:
    """Whom a comparison, or a claim, is against."""
    several = len(one.get("against", ())) > 1
    return f"every baseline; hardest to beat: {one['baseline']}" if several else one["baseline"]


def adjusted(one: JsonObject) -> str:
    """The interval that a verdict is read off, with its chance."""
    chance = f"{100 * one['adjusted_confidence']:.4g} %"
    return f"{interval_ends(one['adjusted_low'], one['adjusted_high'])} ({chance})"


def better(one: JsonObject) -> str:
    """Who is, or why nobody is named."""
    if one["winner"]:
        return one["winner"]
    if one["withheld"]:
        return "exploratory" if one["withheld"] == "exploratory" else "no verdict yet"
    return "not decided"


def size_needed(one: JsonObject) -> str:
    """Seeds and items that would find the difference, and the spread of the seeds."""
    if one["seeds_needed"] is None:
        return "–"
    least, most = (one[f"seeds_needed_{end}"] or "> 10,000" for end in ("least", "most"))
    return f"{one['seeds_needed']} × {one['items_needed']} ({least} – {most})"


def _synergy(rule: JsonObject) -> str:
    verdict = {True: "Claimed", False: "Not claimed", None: "Not decided"}[rule["claimed"]]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in rule["reasons"])
    return f"<p><b>{escape(rule['task'])}: {verdict}.</b></p><ul>{reasons}</ul>"


def _task(report: Analysis, task: str) -> list[str]:
    arms = [one for one in report["arms"] if one["task"] == task]
    against = [one for one in report["against_method"] if one["task"] == task]
    return [
        f'<div class="charts">{"".join(task_charts(report, task).values())}</div>',
        _comparisons(against, with_task=False),
        _arms(arms),
        _diagnostics(drawn_arms(report, task)),
    ]


def spread(arm: JsonObject, value: dict[str, float] | None, form: str) -> str:
    """Mean and standard deviation over an arm's seeds, as text; one seed has no deviation."""
    if value is None:
        return "–"
    return f"{typeset(value['mean'], form)} ± " + ("–" if len(arm["seeds"]) < 2 else f"{value['std']:{form}}")


def _arms(arms: Sequence[JsonObject]) -> str:
    def cost(name: str) -> Callable[[JsonObject], Any]:
        return lambda one: "–" if not one["cost"][name] else f"{one['cost'][name]['mean']:,.0f}"

    columns: list[tuple[str, Callable[[JsonObject], Any]]] = [
        ("arm", lambda one: one["arm"] + (" (exploratory)" if one["exploratory"] else "")),
        ("test, mean ± sd", lambda one: spread(one, one["test"], ".4f")),
        ("dev", lambda one: spread(one, one["dev"], ".4f")),
        ("seeds", lambda one: len(one["seeds"])),
        ("samples generated", cost("samples_generated")),
        ("tokens generated", cost("tokens_generated")),
        ("tokens trained", cost("tokens_trained")),
        ("seconds", cost("seconds")),
    ]
    return _table(columns, arms)


def _diagnostics(arms: Sequence[JsonObject]) -> str:
    names = sorted({name for arm in arms for name in arm["diagnostics"]})
    if not names:
        return ""

    columns: list[tuple[str, Callable[[str], Any]]] = [("diagnostic", lambda name: name)]
    columns += [
        (arm["arm"], lambda name, arm=arm: spread(arm, arm["diagnostics"].get(name), ".3g")) for arm in arms
    ]
    return f"<details><summary>Diagnostics</summary>{_table(columns, names)}</details>"


def _runs(runs: Sequence[JsonObject]) -> str:
    columns: list[tuple[str, Callable[[JsonObject], Any]]] = [
        ("arm", lambda one: one["arm"]),
        ("task", lambda one: one["task"]),
        ("seed", lambda one: one["seed"]),
        ("status", lambda one: one["status"]),
        ("seconds", lambda one: f"{one['seconds']:.0f}"),
        ("id", lambda one: one["id"] or "–"),
        ("error", lambda one: one["error"] or ""),
    ]
    failed = [run for run in runs if run["error"] or run["status"] in ("failed", "cancelled")]
    shown = f'<p class="bad">{len(failed)} failed:</p>{_table(columns, failed)}' if failed else ""
    return f"{shown}<details><summary>All {len(runs)} runs</summary>{_table(columns, runs)}</details>"


def _legend(report: Analysis) -> str:
    method, plan = report["method"], report["plan"]
    seeds, alpha, draws = method["least_seeds"], f"{100 * method['alpha']:.3g}%", f"{method['draws']:,}"
    return (
        f"<p>Δ is {escape(plan['method'])} − other arm on the test items, a mean over samples, items and "
        "seeds. Intervals and p come from a test with crossed random seeds and items: they are about "
        "methods on such tasks. Holm's p is corrected over the table; an arm is called better with "
        f"{seeds} seeds or more and Holm's p at most the level beside it, where the interval of the "
        f"verdict excludes zero. The claim and all other comparisons share the {alpha} that the report "
        f"may err with. <i>These trained models</i>: a sign-flip over items ({draws} draws), which says "
        f"nothing of other seeds. <i>Detectable Δ</i> is found with {method['power']:.0%} chance where it "
        "comes first in its table; <i>needed</i> are seeds and items that would find the Δ that was seen, "
        "as uncertain as that is. In the charts the thick line is the 95 % interval, the thin one that of "
        "the verdict.</p>"
    )


def _table(columns: Sequence[tuple[str, Callable[[Any], Any]]], rows: Sequence[Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in columns)
    lines = [
        "<tr>" + "".join(f"<td>{escape(str(value(row)))}</td>" for _, value in columns) + "</tr>"
        for row in rows
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def number(value: float | None) -> str:
    """To four places."""
    return "–" if value is None else f"{value:.4f}"


def p_value(value: float | None) -> str:
    """A p; small ones as a bound."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
