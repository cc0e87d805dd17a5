"""Runs killed at random instants, their newest state damaged or not, against the run that nobody killed."""

from pathlib import Path

import pytest

from tests.chaos.kill_points import KilledRuns


@pytest.mark.parametrize("lora", [False, True], ids=["weights", "lora"])
def test_a_run_that_is_killed_ends_bit_for_bit_as_if_it_had_not_been(
    tiny_model: Path, tmp_path: Path, lora: bool
) -> None:
    runs = KilledRuns(tmp_path / "runs", tiny_model, lora=lora)
    assert sorted(runs.whole.digests) == list(range(7))
    runs.kill(0, kills=2, damage=False)
    runs.kill(1, damage=True)
