"""A few requests of each kind to every operation, on each run; ``make fuzz`` sends thousands."""

from tests.fuzz.run import fuzz
from tests.fuzz.target import target


def test_every_operation_keeps_to_its_description():
    with target(keyed=True) as one:
        found = fuzz(one, "keyed", cases=3, seed=1, options=("--phases", "examples,fuzzing"), quiet=True)
    assert not found.failed, found.output[-6000:]
    assert found.operations >= 39
    assert found.cases > 100
    assert found.accepted > 20, "most requests were refused: this says little"
    assert sum(sum(answers.values()) for answers in found.answers.values()) >= found.cases
    assert len(found.answers) == found.operations
