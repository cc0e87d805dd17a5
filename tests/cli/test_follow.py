"""What the display makes of metrics events."""

import pytest

from app.cli.demo.result import Result, markdown, verdict
from app.cli.follow import Curves, duration
from app.cli.sparkline import sparkline


def curves() -> Curves:
    seen = Curves()
    for step, reward, seconds in ((0, 0.0, 0.0), (1, 0.25, 4.0), (2, 0.5, 2.0)):
        at = "train" if step else "eval"
        values = {f"{at}/{mode}/reward": reward for mode in "NH"} | {
            f"{at}/{mode}/entropy_nats": 2.0 for mode in "NH"
        }
        if step:
            values |= {"train/step_seconds": seconds, "train/tokens_per_second": 100.0}
        seen.add({"step": step, "total_steps": 4, "values": values})
    return seen


def test_a_step_is_one_line() -> None:
    assert curves().line() == (
        "step 2/4  normal: reward 0.50, entropy 2.00 nats  high-entropy: reward 0.50, entropy 2.00 nats"
        "  100 tokens/s  ETA 0:06"
    )


def test_a_repeated_step_counts_once() -> None:
    seen = curves()
    seen.add({"step": 2, "total_steps": 4, "values": {"train/N/reward": 0.75}})
    assert seen.values("train/N/reward") == [0.25, 0.75]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.4, "1:01"), (3723, "1:02:03")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_sparkline_covers_its_scale() -> None:
    assert sparkline([0, 1], low=0, high=1) == "▁█"
    assert sparkline([0.5] * 3, low=0, high=1) == "▅▅▅"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert len(sparkline(list(range(100)), width=10)) == 10
    assert sparkline([]) == ""


def test_the_verdict_does_not_flatter() -> None:
    seen = Curves(total_steps=2)
    before = {"eval/N/reward": 0.5, "eval/N/entropy_nats": 1.0, "eval/H/entropy_nats": 1.0}
    for step in (0, 2):
        seen.add({"step": step, "total_steps": 2, "values": {**before, "eval/kl_H_N/prefix_H": 0.1}})
    rise, gap, apart = verdict(Result(0, "ft:x", 1.0, seen))
    assert "did not rise" in rise
    assert "not more diverse" in gap
    assert "did not move apart" in apart


def test_the_markdown_table_has_a_row_a_seed() -> None:
    seen = Curves()
    for step, reward in ((0, 0.1), (3, 0.6)):
        seen.add({"step": step, "total_steps": 3, "values": {"eval/N/reward": reward}})
    head, rule, *rows = markdown([Result(seed, "ft:x", 61.0, seen) for seed in (0, 1)]).splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|")
    assert [row.split("|")[1].strip() for row in rows] == ["0", "1"]
    assert "0.10 → 0.60" in rows[0]
