"""A few seeded trials on each pair; ``make chaos`` runs many. A failure prints the seed of its trial."""

import pytest

from tests.chaos.system import Pair, running_system
from tests.chaos.trial import run_trial
from tests.fixtures.models import build_tiny_model

#: By their faults (tests.chaos.faults): a machine that hangs past its leases, and one that loses power.
TRIALS = {"embedded": (11,), "external": (5,)}


@pytest.mark.parametrize("pair", ["embedded", "external"])
def test_whatever_happens_jobs_come_to_their_right_end(pair: Pair, request: pytest.FixtureRequest) -> None:
    postgres = request.getfixturevalue("postgres_url") if pair == "external" else None
    with running_system(pair, postgres=postgres, apis=1) as system:
        build_tiny_model(system.model)
        for seed in TRIALS[pair]:
            try:
                run_trial(system, seed, jobs=3)
            except AssertionError as error:
                raise AssertionError(
                    f"again: python -m tests.chaos --parts trials --pair {pair} --seed {seed} --trials 1"
                ) from error
