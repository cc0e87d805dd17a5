"""What a demo run measured, and how it is shown."""

import re
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from app.cli.follow import MODES, Curves, duration
from app.cli.sparkline import sparkline

# Row label, metric of the evaluations, decimals. {m} is the mode's label.
PER_MODE = [
    ("reward", "eval/{m}/reward", 2),
    ("accuracy", "eval/{m}/accuracy", 2),
    ("entropy, nats per token", "eval/{m}/entropy_nats", 2),
    ("entropy, bits a token", "eval/{m}/entropy_bits", 2),
    ("length, tokens", "eval/{m}/length", 1),
]
BETWEEN_MODES = [
    ("KL(H‖N) on high-entropy answers, nats", "eval/kl_H_N/prefix_H", 3),
    ("KL(N‖H) on normal answers, nats", "eval/kl_N_H/prefix_N", 3),
]


@dataclass(frozen=True)
class Result:
    """One finished job: its metrics, from the evaluation before training to the one after it."""

    seed: int
    model: str
    seconds: float
    curves: Curves

    def before(self, name: str) -> float:
        """A metric of the evaluation before the first step."""
        return self.curves.series.get(name, {}).get(0, float("nan"))

    def after(self, name: str) -> float:
        """The same after the last step."""
        return self.curves.series.get(name, {}).get(self.curves.total_steps, float("nan"))

    @property
    def samples(self) -> int:
        """Of how many samples of a question different right answers were counted; below 2 none differ."""
        counted = (re.fullmatch(r"eval/N/distinct_right@(\d+)", name) for name in self.curves.series)
        return max((int(found[1]) for found in counted if found), default=0)

    @property
    def variety(self) -> list[tuple[str, str, int]]:
        """Different right answers as a row of a table: its label, metric and decimals; none without."""
        k = self.samples
        return [(f"different right answers in {k}", f"eval/{{m}}/distinct_right@{k}", 1)] if k > 1 else []


def comparison(result: Result) -> Table:
    """Both modes before and after, on items that were not trained."""
    table = Table(title="On validation items", title_justify="left")
    for header in ("", "normal before", "normal after", "high-entropy before", "high-entropy after"):
        table.add_column(header, justify="right" if header else "left")
    for label, metric, decimals in [*result.variety, *PER_MODE]:
        cells = [
            f"{value:.{decimals}f}"
            for mode in MODES
            for value in (result.before(metric.format(m=mode)), result.after(metric.format(m=mode)))
        ]
        table.add_row(label, *cells)
    return table


def distance(result: Result) -> Table:
    """How far apart the modes are."""
    table = Table("between the modes", "before", "after")
    for label, metric, decimals in BETWEEN_MODES:
        table.add_row(label, f"{result.before(metric):.{decimals}f}", f"{result.after(metric):.{decimals}f}")
    return table


def reward_plot(curves: Curves) -> Group:
    """Training reward a step, both modes on the same scale from 0 to 1."""
    lines = Table.grid(padding=(0, 2))
    for label, (name, style) in MODES.items():
        rewards = curves.values(f"train/{label}/reward")
        if rewards:
            lines.add_row(
                Text(name, style=style),
                Text(f"{rewards[0]:.2f}"),
                Text(sparkline(rewards, width=60, low=0.0, high=1.0), style=style),
                Text(f"{rewards[-1]:.2f}"),
            )
    return Group(Text("Training reward, step by step (scale 0 to 1)", style="bold"), lines)


# A difference below it is shown as none: the tables above round to two and three decimals.
NOTICEABLE = 0.005


def verdict(result: Result) -> list[str]:
    """In words, whether the run shows what the demo is to show."""
    rise = result.after("eval/N/reward") - result.before("eval/N/reward")
    gap = result.after("eval/H/entropy_nats") - result.after("eval/N/entropy_nats")
    kl_before, kl_after = (at("eval/kl_H_N/prefix_H") for at in (result.before, result.after))
    sentences = [
        f"The normal mode's reward {'rose' if rise > NOTICEABLE else 'did not rise'}: {rise:+.2f}.",
        f"The high-entropy mode is {'more' if gap > NOTICEABLE else 'not more'} diverse than the normal one: "
        f"{gap:+.2f} nats per token.",
        f"The modes {'moved apart' if kl_after - kl_before > NOTICEABLE else 'did not move apart'}: "
        f"KL(H‖N) from {kl_before:.3f} to {kl_after:.3f} nats per token.",
    ]
    for _, metric, _ in result.variety:
        high, normal = (result.after(metric.format(m=mode)) for mode in "HN")
        sentences.append(
            f"In {result.samples} samples, the high-entropy mode gives {high:.1f} different right "
            f"answers, the normal mode {normal:.1f}."
        )
    return sentences


_ACCURACY = ("accuracy", "eval/{m}/accuracy", 2)
# Where a question has one right answer.
_SURENESS = [("reward", "eval/{m}/reward", 2), ("entropy, nats", "eval/{m}/entropy_nats", 2)]


def markdown(results: list[Result]) -> str:
    """The results of several seeds as a table for the README."""
    variety = results[0].variety
    columns = [
        (f"{name} {label}", metric.format(m=mode), decimals)
        for label, metric, decimals in ([_ACCURACY, *variety] if variety else _SURENESS)
        for mode, (name, _) in MODES.items()
    ] + [("KL(H‖N), nats", "eval/kl_H_N/prefix_H", 3)]
    lines = [
        "| seed | steps | training time | " + " | ".join(label for label, _, _ in columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for result in results:
        cells = [
            f"{result.before(metric):.{decimals}f} → {result.after(metric):.{decimals}f}"
            for _, metric, decimals in columns
        ]
        head = [str(result.seed), str(result.curves.total_steps), duration(result.seconds)]
        lines.append("| " + " | ".join(head + cells) + " |")
    return "\n".join(lines)
