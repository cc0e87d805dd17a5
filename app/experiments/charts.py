"""The charts of a report: of each task, how far the method is from the other arms, and the arms' curves."""

from collections.abc import Sequence

from app.core.strict_json import JsonObject
from app.experiments.svg import Bar, Line, interval_chart, line_chart
from trainer.statistics.run_results import Analysis

#: Colours by their use, in a light scheme and in a dark one.
PALETTE = """
:root{color-scheme:light dark;--text:#222;--faint:#666;--rule:#ddd;--paper:#fff;--box:#f3f6fa;--bad:#b00020}
@media (prefers-color-scheme:dark){
:root{--text:#e4e6ea;--faint:#9aa0a8;--rule:#363b43;--paper:#15181c;--box:#1d2329;--bad:#ff8a80}}
"""
CHART_STYLE = """svg{color:var(--text)}
svg text{font:11px system-ui,sans-serif;fill:currentColor}svg .title{font-weight:600;font-size:13px}
svg .grid{stroke:var(--rule)}svg .axis{stroke:var(--faint)}svg .hollow{fill:var(--paper)}
"""
#: Lines in one plot: the method, the baselines to beat and the controls first.
MOST_LINES = 8
_CURVES = {
    "eval/N/accuracy": "accuracy, normal mode",
    "eval/H/accuracy": "accuracy, high-entropy mode",
    "eval/N/entropy_nats": "entropy, normal mode (nats)",
    "eval/H/entropy_nats": "entropy, high-entropy mode (nats)",
    "eval/kl_H_N/prefix_H": "KL(H‖N) on H's prefixes (nats)",
}
_AT_K = {"pass_at_k": "pass@k", "distinct_right_at_k": "different right answers in k"}
_MODES = {"N": "normal", "H": "high-entropy", "mix": "both modes mixed, or one mode, at equal budget"}


def task_charts(report: Analysis, task: str) -> dict[str, str]:
    """SVG by name: ``differences``, metrics over steps by the metric's name, ``pass@k/MODE`` and
    ``different right answers in k/MODE``.

    A chart without anything to draw is empty.
    """
    against = [one for one in report["against_method"] if one["task"] == task]
    bars = [_bar(one) for one in against if one["low"] is not None]
    title = f"{report['plan']['method']} − arm"
    words = "thick: 95 % interval; thin: corrected interval of the verdict; filled: separated"
    charts = {"differences": interval_chart(title, bars, words)}
    drawn, places = drawn_arms(report, task), _places(report)

    def line(arm: JsonObject, points: Sequence[dict[str, float]], x: str) -> Line:
        name = arm["arm"]
        return Line(name, [(at[x], at["mean"], at["std"]) for at in points], places[name])

    for name, label in _CURVES.items():
        lines = [line(arm, arm["curves"].get(name, []), "step") for arm in drawn]
        charts[name] = line_chart(f"{label} ± sd over seeds", lines, "step", "")
    for mode, label in _MODES.items():
        for name, about in _AT_K.items():
            lines = [line(arm, _at_k(arm[name], mode), "k") for arm in drawn]
            title = f"{about}, {label}"
            charts[f"{about}/{mode}"] = line_chart(title, lines, "k", "", log_x=True)
    return charts


def _bar(one: JsonObject) -> Bar:
    inner, outer = ((one[f"{kind}low"], one[f"{kind}high"]) for kind in ("", "adjusted_"))
    return Bar(one["baseline"], one["delta"], inner, outer, one["separated"])


def standalone(svg: str) -> str:
    """The chart as a file of its own, which brings its colours and follows the reader's scheme."""
    opened, _, rest = svg.partition(">")
    ground = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f"{opened}><style>{PALETTE}{CHART_STYLE}</style>{ground}{rest}\n"


def drawn_arms(report: Analysis, task: str) -> list[JsonObject]:
    """The arms of ``task`` that have curves, as many as can be told apart, the ones that matter first."""
    plan = report["plan"]
    first = [plan["method"], *(one["baseline"] for one in report["claims"] if one["task"] == task)]
    order = [*first, *plan["controls"].values(), *plan["baselines"], *plan["arms"]]
    by_name = {arm["arm"]: arm for arm in report["arms"] if arm["task"] == task and arm["seeds"]}
    return [by_name[name] for name in dict.fromkeys(order) if name in by_name][:MOST_LINES]


def _places(report: Analysis) -> dict[str, int]:
    """The arms that are drawn, each with a number of its own in all charts of the report."""
    names = [arm["arm"] for task in report["plan"]["tasks"] for arm in drawn_arms(report, task)]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _at_k(curves: JsonObject, mode: str) -> Sequence[dict[str, float]]:
    """The curve of ``mode``; of an arm with one mode, as many samples of that one are its mixture."""
    return curves.get("N", []) if mode == "mix" and len(curves) == 1 else curves.get(mode, [])
