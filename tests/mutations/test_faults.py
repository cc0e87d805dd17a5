"""The list of faults still fits the source. Whether they are caught is ``python -m tests.mutations``."""

import ast
from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS, SUBJECTS, Fault

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.why.replace(" ", "_"))
def test_each_fault_is_one_line_that_can_still_be_planted(fault: Fault):
    source = (ROOT / fault.file).read_text()
    assert source.count(fault.old) == 1
    assert "\n" not in fault.old + fault.new
    mutated = source.replace(fault.old, fault.new)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.why.replace(" ", "_"))
def test_its_tests_exist(fault: Fault):
    assert fault.tests
    assert all((ROOT / f"tests/trainer/test_{name}.py").is_file() for name in fault.tests)


def test_every_subject_has_faults():
    assert {fault.subject for fault in FAULTS} == set(SUBJECTS)
    assert len({(fault.file, fault.new) for fault in FAULTS}) == len(FAULTS) >= 10
