"""What libraries evaluate does nothing outside a sandbox. In full: ``python -m tests.attack.payloads``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack import payloads
from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.runs import run_main, tiny_spec
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.data.items import Item
from trainer.graders.build import build_grader
from trainer.graders.grade import Sample
from trainer.graders.spec import EnvironmentGrader
from trainer.spec.algorithm import PolicySplit
from trainer.spec.modes import Mode
from trainer.steps.generation import build_group, grade_groups
from trainer.types import Rollout


@pytest.mark.parametrize("family", ["string_insertion", "polynomial_multiplication", "simple_integration"])
def test_text_that_a_scorer_evaluates_does_nothing_outside(family: str):
    """A family that calls eval(), one whose row is parsed, too, one that parses what is in the metadata."""
    with payloads.traps() as set_:
        grader = build_grader(EnvironmentGrader(task=family), workers=1)
        found = list(payloads.on_grader(set_, family, grader, payloads.samples(set_, family)))
    assert len(found) == 12
    assert [attempt for attempt in found if not attempt.held] == []


def test_parameters_of_a_job_do_nothing_outside():
    with payloads.traps() as set_:
        found = list(payloads.parameters(set_))
    assert len(found) == 6
    assert [attempt for attempt in found if not attempt.held] == []


def test_the_traps_notice_what_happens_outside():
    """Else the tests above would show nothing."""
    with payloads.traps() as set_:
        for program in set_.payloads().values():
            subprocess.run([sys.executable, "-c", f"eval({program!r})"], check=True, timeout=60)
            assert set_.sprung() is not None
            assert set_.sprung() is None


def test_what_one_answer_does_to_the_scorer_no_other_answer_feels():
    """An answer that makes every later answer right, and one that ends the process; between honest ones."""
    task = "string_insertion"
    grader = build_grader(EnvironmentGrader(task=task), workers=1)
    item = {"answer": "AAB", "metadata": {}}
    poison = (
        "[setattr(__import__('reasoning_gym').algorithmic.string_insertion.StringInsertionDataset, "
        "'score_answer', lambda *_: 1.0)]"
    )
    texts = ["AAB", "AAC", poison, "AAC", "['A', 'A', 'B']", "[__import__('os')._exit(0)]", "AAC", "AAB"]
    try:
        grades = grader.grade_many([Sample(item, text) for text in texts])
    finally:
        grader.close()
    assert [grade.reward for grade in grades] == [1.0, 0.0, 0.0, 0.0, 0.1, None, 0.0, 1.0]
    assert grades[5].error == "the scorer exited with code 0"


def test_what_the_model_in_training_says_does_nothing_outside(tiny_model: Path):
    """Token ids, as an engine gives them, become a response that its task's scorer evaluates."""
    policy = load_tiny_policy(tiny_model)
    task = "string_insertion"
    item = Item([{"role": "user", "content": "x"}], {"answer": "x", "metadata": payloads.METADATA})
    group = build_group(policy, item, 0, 0, None)
    with payloads.traps() as set_:
        texts = [payloads.WAYS_IN[task].format(payload=one) for one in set_.payloads().values()]
        for text in texts:
            group.rollouts.append(Rollout(Mode.NORMAL, policy.tokenizer.encode(text), [], truncated=False))
        grader = build_grader(EnvironmentGrader(task=task), workers=1)
        try:
            context = step_context(policy, build_algorithm(PolicySplit(), 16), grader=grader)
            grade_groups(context, [group], all_may_fail=True)
        finally:
            grader.close()
        assert [rollout.text for rollout in group.rollouts] == texts, "else nothing was tried"
        assert set_.sprung() is None


def test_a_row_that_a_run_trains_on_does_nothing_outside(tiny_model: Path, tmp_path: Path):
    task, data = "polynomial_multiplication", tmp_path / "data.jsonl"
    with payloads.traps() as set_:
        rows = []
        for what, payload in set_.payloads().items():
            text = payloads.WAYS_IN[task].format(payload=payload)
            row = {"messages": [{"role": "user", "content": what}], "answer": text}
            rows.append(json.dumps(row | {"metadata": dict.fromkeys(payloads.METADATA, text)}) + "\n")
        data.write_text("".join(rows))
        spec = tiny_spec(tiny_model, data, total_steps=1, grader=EnvironmentGrader(task=task))
        run_main(spec, tmp_path / "run")
        assert set_.sprung() is None
