"""The demo's tasks, and how their answers and numbers are shown."""

import pytest

from app.cli.demo.conversation import folded
from app.cli.demo.result import Result, comparison, markdown, verdict
from app.cli.demo.task import TASKS
from app.cli.follow import Curves
from trainer.graders.build import build_grader
from trainer.graders.grade import Sample
from trainer.graders.spec import PythonGrader

NAMES = TASKS["names"]
FLOWERS = {"names": ["rose", "lily", "tulip", "sweet pea"], "messages": []}
#: Responses with their reward and what they answer.
RESPONSES = [
    ("Rose", 1.0, "rose"),
    ("A rose.", 1.0, "rose"),
    ("**Sweet Pea**\nIt is lovely", 1.0, "sweet pea"),
    ("I like the tulip", 0.3, "i like the tulip"),
    ("Roses", 0.0, "roses"),
    ("Primrose", 0.0, "primrose"),
    (" ", 0.0, None),
]


def test_the_names_grader_takes_a_name_alone_and_a_part_of_it_for_a_sentence() -> None:
    """In the sandbox, as a job has it; what the demo marks agrees."""
    grader = PythonGrader.model_validate(NAMES.job_body()["method"]["reinforcement"]["grader"])
    built = build_grader(grader)
    try:
        grades = built.grade_many([Sample(item=FLOWERS, text=text) for text, _, _ in RESPONSES])
    finally:
        built.close()
    assert [(one.reward, one.answer) for one in grades] == [(r, answer) for _, r, answer in RESPONSES]
    marked = [NAMES.judge(FLOWERS, text) for text, _, _ in RESPONSES]
    assert marked == [(reward == 1.0, answer) for _, reward, answer in RESPONSES]


def test_the_names_of_a_kind_are_there_once_and_in_the_graders_own_form() -> None:
    training, validation = NAMES.rows()
    assert len(training) > len(validation)
    for row in training + validation:
        names = row["names"]
        assert len(names) == len(set(names)) >= 20
        assert all(NAMES.judge(row, name) == (True, name) for name in names)


def test_equal_answers_are_folded_and_right_ones_come_first() -> None:
    texts = ["Shrub", "A rose.", "Lily", "rose", "Rose", "shrub", "grass"]
    assert folded(NAMES, FLOWERS, texts).splitlines() == [
        "[green]✓[/] 3 × A rose.",
        "[green]✓[/] Lily",
        "[red]✗[/] 2 × Shrub",
        "[red]✗[/] grass",
        "[bold]2 different right answers in 7[/]",
    ]
    sums = {"answer": "7", "messages": []}
    assert folded(TASKS["sums"], sums, ["It is 7.", "7", "8"]).splitlines() == [
        "[green]✓[/] 2 × It is 7.",
        "[red]✗[/] 8",
    ]


@pytest.fixture
def of_names() -> Result:
    """Both modes before training and after it."""
    seen = Curves()
    for step, accuracy, high, normal in ((0, 0.1, 1.0, 1.0), (3, 0.9, 6.25, 1.5)):
        values = {"eval/H/distinct_right@16": high, "eval/N/distinct_right@16": normal}
        values |= {f"eval/{mode}/distinct_right@8": 1.0 for mode in "NH"}
        values |= {f"eval/{mode}/accuracy": accuracy for mode in "NH"}
        seen.add({"step": step, "total_steps": 3, "values": values})
    return Result(0, "ft:x", 61.0, seen)


def test_the_results_say_how_many_right_answers_differ(of_names: Result) -> None:
    assert verdict(of_names)[-1] == (
        "In 16 samples the high-entropy mode gives 6.2 different right answers, the normal mode 1.5."
    )
    assert next(iter(comparison(of_names).columns[0].cells)) == "different right answers in 16"
    head, _, row = markdown([of_names]).splitlines()
    of_column = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert of_column["normal accuracy"] == "0.10 → 0.90"
    assert of_column["high-entropy different right answers in 16"] == "1.0 → 6.2"
