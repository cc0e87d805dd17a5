"""The demo's tasks, and how their answers and numbers are shown."""

import pytest

from app.cli.demo.conversation import folded
from app.cli.demo.result import Result, comparison, markdown, verdict
from app.cli.demo.task import TASKS
from app.cli.follow import Curves
from trainer.graders.build import build_grader
from trainer.graders.grade import Sample
from trainer.graders.spec import PythonGrader

NUMBERS = TASKS["numbers"]
RANGE = {"low": 20, "high": 40, "messages": []}
#: Responses with their reward and what they answer.
RESPONSES = [
    ("20", 1.0, "20"),
    (" 40.\n", 1.0, "40"),
    ("033", 1.0, "33"),
    ("41", 0.1, "41"),
    ("7", 0.1, "7"),
    ("-25", 0.0, "-25"),
    ("I pick 30", 0.0, "30"),
    ("20 or 30", 0.0, None),
    ("20 30", 0.0, None),
    ("2.5", 0.0, None),
    ("twenty", 0.0, None),
    (" ", 0.0, None),
]


def test_the_grader_takes_a_number_of_the_range_alone_and_a_part_of_it_for_another() -> None:
    """In the sandbox, as a job has it; what the demo marks agrees."""
    grader = PythonGrader.model_validate(NUMBERS.job_body()["method"]["reinforcement"]["grader"])
    built = build_grader(grader)
    try:
        grades = built.grade_many([Sample(item=RANGE, text=text) for text, _, _ in RESPONSES])
    finally:
        built.close()
    assert [(one.reward, one.answer) for one in grades] == [(r, answer) for _, r, answer in RESPONSES]
    marked = [NUMBERS.judge(RANGE, text) for text, _, _ in RESPONSES]
    assert marked == [(reward == 1.0, answer) for _, reward, answer in RESPONSES]


def test_no_range_is_trained_and_validated_and_the_question_names_it() -> None:
    training, validation = NUMBERS.rows()
    lows = [row["low"] for row in training + validation]
    assert len(training) > len(validation) > 0 and len(lows) == len(set(lows))
    for row in training + validation:
        asked = row["messages"][-1]["content"]
        assert f"between {row['low']} and {row['high']}." in asked
        assert NUMBERS.judge(row, str(row["low"])) == (True, str(row["low"]))
        assert not NUMBERS.judge(row, str(row["high"] + 1))[0]


def test_equal_answers_are_folded_and_right_ones_come_first() -> None:
    texts = ["50", "20.", "33", "20", "20", "50.", "many"]
    assert folded(NUMBERS, RANGE, texts).splitlines() == [
        "[green]✓[/] 3 × 20.",
        "[green]✓[/] 33",
        "[red]✗[/] 2 × 50",
        "[red]✗[/] many",
        "[bold]2 different right answers in 7[/]",
    ]
    sums = {"answer": "7", "messages": []}
    assert folded(TASKS["sums"], sums, ["It is 7.", "7", "8"]).splitlines() == [
        "[green]✓[/] 2 × It is 7.",
        "[red]✗[/] 8",
    ]


@pytest.fixture
def of_numbers() -> Result:
    """Both modes before training and after it."""
    seen = Curves()
    for step, accuracy, high, normal in ((0, 0.1, 1.0, 1.0), (3, 0.9, 6.25, 1.5)):
        values = {"eval/H/distinct_right@16": high, "eval/N/distinct_right@16": normal}
        values |= {f"eval/{mode}/distinct_right@8": 1.0 for mode in "NH"}
        values |= {f"eval/{mode}/accuracy": accuracy for mode in "NH"}
        seen.add({"step": step, "total_steps": 3, "values": values})
    return Result(0, "ft:x", 61.0, seen)


def test_the_results_say_how_many_right_answers_differ(of_numbers: Result) -> None:
    assert verdict(of_numbers)[-1] == (
        "In 16 samples, the high-entropy mode gives 6.2 different right answers, the normal mode 1.5."
    )
    assert next(iter(comparison(of_numbers).columns[0].cells)) == "different right answers in 16"
    head, _, row = markdown([of_numbers]).splitlines()
    of_column = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert of_column["normal accuracy"] == "0.10 → 0.90"
    assert of_column["high-entropy different right answers in 16"] == "1.0 → 6.2"
