"""Scorers in sandboxes: mathematics and reasoning-gym's tasks, and what would hang them."""

import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from trainer.data.items import load_items
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grade, Grader, Sample
from trainer.graders.spec import EnvironmentGrader, MathVerifyGrader
from trainer.spec.data import EnvironmentData


@pytest.fixture(scope="module")
def mathematics() -> Iterator[Grader]:
    grader = build_grader(MathVerifyGrader(timeout_seconds=5), workers=1)
    yield grader
    grader.close()


@pytest.mark.parametrize(
    ("text", "reference", "reward"),
    [
        ("So the answer is \\boxed{\\frac{1}{2}}.", "0.5", 1),
        ("\\boxed{3} at first, but then \\boxed{4}", "4", 1),
        ("half, that is 1/2", "\\frac{1}{2}", 1),
        ("the result is $x^2 + 2x + 1$", "$(x+1)^2$", 1),
        ("\\boxed{12}, and 13 is not it", "12", 1),
        ("It is 1,234.", "1234", 1),
        ("\\boxed{5}", "6", 0),
        ("I do not know", "6", 0),
        ("", "6", 0),
        ("\ud800 \\boxed{6}", "6", 1),
    ],
)
def test_equal_is_equal_as_mathematics(mathematics: Grader, text: str, reference: str, reward: float):
    grade = mathematics({"answer": reference}, text)
    assert (grade.reward, grade.scores, grade.error) == (reward, {"math_verify": reward}, None)


def test_a_reference_that_is_no_expression_is_an_error(mathematics: Grader):
    grade = mathematics({"answer": " "}, "\\boxed{1}")
    assert (
        grade.reward is None and grade.error is not None and "is not a mathematical expression" in grade.error
    )


def test_what_would_take_for_ever_is_killed_in_any_thread():
    grader = build_grader(MathVerifyGrader(timeout_seconds=1), workers=1)
    try:
        grades: list[Grade] = []
        bomb = "\\boxed{9^{9^{9^{9}}}}"

        def grade() -> None:
            samples = [Sample({"answer": "3"}, bomb), Sample({"answer": "2"}, "\\boxed{2}")]
            grades.extend(grader.grade_many(samples))

        started = time.monotonic()
        thread = threading.Thread(target=grade)
        thread.start()
        thread.join()
        assert time.monotonic() - started < 60
        # The library may see through the bomb; if it does not, the child is killed. The next is graded.
        assert grades[0].reward == 0.0 or grades[0].kind == "unresponsive_reward_error"
        assert grades[1].reward == 1.0
    finally:
        grader.close()


def test_a_child_that_died_is_replaced(mathematics: Grader):
    assert mathematics({"answer": "2"}, "2").reward == 1.0
    victims = [one for one in psutil.Process().children() if one.name() == "bwrap"]
    for victim in victims:
        victim.kill()
        victim.wait()
    assert victims
    assert [mathematics({"answer": "2"}, "2").reward for _ in range(2)] == [1.0, 1.0]


@pytest.fixture(scope="module")
def chain_sum() -> Iterator[Grader]:
    grader = build_grader(EnvironmentGrader(task="chain_sum", extract="last_number"))
    yield grader
    grader.close()


def test_environment_asks_the_tasks_own_scorer(chain_sum: Grader):
    entry = {"answer": "7", "metadata": {}}
    assert chain_sum(entry, "4 + 3 = 7").reward == 1.0
    assert (chain_sum(entry, "4 + 3 = 8").reward or 0) < 0.1
    assert (chain_sum(entry, "I do not know").reward or 0) < 0.1
    missing = chain_sum({}, "7")
    assert missing.reward is None and missing.error is not None and "KeyError" in missing.error


@pytest.mark.parametrize(
    "task", ["chain_sum", "spell_backward", "sudoku", "countdown", "graph_color", "quantum_lock"]
)
def test_a_tasks_own_items_are_scored_as_the_task_scores_them(task: str):
    """Whatever types their metadata is made of."""
    (item,) = load_items(EnvironmentData(task=task, size=1, seed=3))
    import reasoning_gym  # which takes seconds: not where tests are collected

    own = reasoning_gym.create_dataset(task, size=1, seed=3)
    grader = build_grader(EnvironmentGrader(task=task), workers=1)
    try:
        for text in (str(item.fields["answer"]), "no such answer"):
            grade = grader(item.fields, text)
            assert grade.error is None
            assert grade.scores["environment"] == own.score_answer(text, dict(item.fields))
    finally:
        grader.close()


def test_unknown_environment_is_refused_at_set_up():
    with pytest.raises(InvalidSpec, match="no_such_task"):
        build_grader(EnvironmentGrader(task="no_such_task"))
