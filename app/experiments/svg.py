"""Two kinds of plots as inline SVG: lines with bands, and differences with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from trainer.statistics.wording import typeset

#: Told apart by people who see colours differently (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor", "#8a6d00")
_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 40


@dataclass(frozen=True)
class Line:
    """A line of (x, y) with a band of half-width ``spread`` around it. What has one ``place`` in several
    charts looks alike in them."""

    label: str
    points: Sequence[tuple[float, float, float]]
    place: int


@dataclass(frozen=True)
class Bar:
    """A difference with its interval, and a wider one around it; ``sure`` ones are drawn filled."""

    label: str
    value: float
    inner: tuple[float, float]
    outer: tuple[float, float]
    sure: bool


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, log_x: bool = False) -> str:
    """Lines over one pair of axes, with a legend below; empty where there is nothing to draw."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    xs = [_x(x, log_x) for line in lines for x, _, _ in line.points]
    lows = [y - spread for line in lines for _, y, spread in line.points]
    highs = [y + spread for line in lines for _, y, spread in line.points]
    x_range, y_range = _padded(min(xs), max(xs), 0.0), _padded(min(lows), max(highs), 0.05)
    legend = 16 * math.ceil(len(lines) / 2)
    drawn = [_axes(title, x_range, y_range, x_label, y_label, log_x)]
    for number, line in enumerate(lines):
        colour = COLOURS[line.place % len(COLOURS)]
        dash = "" if line.place < len(COLOURS) else ' stroke-dasharray="5 3"'
        at = [(_across(_x(x, log_x), x_range), y, spread) for x, y, spread in line.points]
        upper = [f"{x:.1f},{_down(y + spread, y_range):.1f}" for x, y, spread in at]
        lower = [f"{x:.1f},{_down(y - spread, y_range):.1f}" for x, y, spread in reversed(at)]
        middle = [f"{x:.1f},{_down(y, y_range):.1f}" for x, y, _ in at]
        drawn.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.12"/>')
        drawn.append(
            f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )
        x, y = _LEFT + 200 * (number % 2), _HEIGHT + 10 + 16 * (number // 2)
        drawn.append(
            f'<line x1="{x}" y1="{y}" x2="{x + 18}" y2="{y}" stroke="{colour}" stroke-width="3"{dash}/>'
        )
        drawn.append(f'<text x="{x + 24}" y="{y + 4}">{escape(line.label)}</text>')
    return _picture(drawn, _WIDTH, _HEIGHT + legend + 6, title)


def interval_chart(title: str, bars: Sequence[Bar], x_label: str) -> str:
    """Differences below each other around a line at zero; empty where there is none."""
    if not bars:
        return ""
    left = 190
    low, high = _padded(min(0.0, *(b.outer[0] for b in bars)), max(0.0, *(b.outer[1] for b in bars)), 0.05)
    height = _TOP + 20 * len(bars) + _BOTTOM

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - _RIGHT)

    bottom = height - _BOTTOM
    drawn = [f'<text x="{left}" y="15" class="title">{escape(title)}</text>']
    for tick in _ticks(low, high):
        x = across(tick)
        drawn.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{typeset(tick, "g")}</text>')
    zero = across(0.0)
    drawn.append(f'<line x1="{zero:.1f}" y1="{_TOP}" x2="{zero:.1f}" y2="{bottom}" class="axis"/>')
    for number, bar in enumerate(bars):
        y = _TOP + 12 + 20 * number
        colour = COLOURS[0] if bar.sure else "#888"
        inside = f'fill="{colour}"' if bar.sure else 'class="hollow"'
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(bar.label)}</text>')
        for (start, end), stroke in ((bar.outer, 1), (bar.inner, 3)):
            drawn.append(
                f'<line x1="{across(start):.1f}" y1="{y}" x2="{across(end):.1f}" y2="{y}" '
                f'stroke="{colour}" stroke-width="{stroke}"/>'
            )
        drawn.append(
            f'<circle cx="{across(bar.value):.1f}" cy="{y}" r="4" {inside} stroke="{colour}" '
            'stroke-width="2"/>'
        )
    drawn.append(f'<text x="8" y="{height - 8}">{escape(x_label)}</text>')
    return _picture(drawn, _WIDTH, height, title)


def _axes(
    title: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_label: str,
    y_label: str,
    log_x: bool,
) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = [f'<text x="{_LEFT}" y="15" class="title">{escape(title)}</text>']
    for tick in _ticks(*y_range):
        y = _down(tick, y_range)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{typeset(tick, "g")}</text>')
    for tick in _ticks(*x_range) if not log_x else range(math.ceil(x_range[0]), math.floor(x_range[1]) + 1):
        shown = 2**tick if log_x else tick
        x = _across(tick, x_range)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{shown:g}</text>')
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}" class="axis"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 30}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{bottom + 30}">{escape(y_label)}</text>')
    return "".join(parts)


def _picture(parts: Sequence[str], width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _x(value: float, log: bool) -> float:
    return math.log2(value) if log else value


def _across(x: float, x_range: tuple[float, float]) -> float:
    low, high = x_range
    return _LEFT + (x - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _down(y: float, y_range: tuple[float, float]) -> float:
    low, high = y_range
    return _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    if low == high:
        return low - 0.5, high + 0.5
    return low - share * (high - low), high + share * (high - low)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between."""
    raw = (high - low) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]
