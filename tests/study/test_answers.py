"""The study of exploration by answers: its plan, its rule, and its report from whatever is there."""

import json
from pathlib import Path

import pytest

from study.answers import smollm2
from study.answers.design import ACCURACY, OUTCOMES, PAIRS, SEEDS, VARIETY, arms, planned_runs
from study.answers.report import write_report
from study.answers.rule import two_modes_beat_one
from study.planned_run import PlannedRun
from study.results import read_results
from study.runner import tuned_rate
from study.studies import OF_ANSWERS, STUDIES
from study.tasks import TASKS, AnsweringReward
from trainer.graders.custom import function_grader
from trainer.spec.algorithm import PolicySplit, SingleMode


def test_every_arm_is_planned_once_a_seed_and_differs_from_the_others_in_its_method():
    runs = planned_runs()
    assert len(runs) == len({run.hash for run in runs}) == len(arms()) * len(TASKS) * len(SEEDS) == 180
    # What the trainer gets from the documents: each arm another algorithm, or another number of updates.
    paths = (Path("model"), Path("training"), Path("validation"))
    of_one_cell = {run.arm: run.spec(*paths) for run in runs if (run.task, run.seed) == ("walks", 3)}
    methods = {
        arm: json.dumps([spec.algorithm.model_dump(mode="json"), spec.optimizer.updates_per_batch])
        for arm, spec in of_one_cell.items()
    }
    assert len(set(methods.values())) == len(methods) == 18
    rest = {
        spec.model_dump_json(exclude={"algorithm": True, "optimizer": {"updates_per_batch"}})
        for spec in of_one_cell.values()
    }
    assert len(rest) == 1
    for arm, spec in of_one_cell.items():
        algorithm = spec.algorithm
        if isinstance(algorithm, PolicySplit):
            assert (algorithm.answer_scale, algorithm.eta > 0) == (
                float(arm.startswith("lambda_1")),
                "no_bonus" not in arm,
            )
        else:
            assert isinstance(algorithm, SingleMode)
            assert (algorithm.uniqueness > 0) == arm.endswith("unique")
    for pair in PAIRS:
        assert {pair.two_modes, pair.one_mode} <= set(arms())


def test_the_arms_on_smollm2_differ_in_their_method_and_no_range_is_trained_and_tested():
    runs = smollm2.planned_runs()
    assert len(runs) == len({run.hash for run in runs}) == 20
    specs = [run.spec(Path("model"), Path("training"), Path("validation")) for run in runs if run.seed == 3]
    assert len({spec.algorithm.model_dump_json() for spec in specs}) == 4
    assert len({spec.model_dump_json(exclude={"algorithm"}) for spec in specs}) == 1
    training, validation = smollm2.split_items(smollm2.TASK)
    ranges = [(item["low"], item["high"]) for item in training + validation]
    assert (len(training), len(validation)) == (400, 64) and len(set(ranges)) == 464
    reward = smollm2.NumberReward()
    assert [reward({"low": 20, "high": 40}, text) for text in ("40", "41", "or 40")] == [1.0, 0.1, 0.0]
    assert reward.answer({"low": 20, "high": 40}, " 040.") == "40"
    assert function_grader(reward).gives_answers


def test_committed_results_are_of_planned_runs():
    """A document, and so a hash, that is planned differently today would orphan what was done."""
    for study in STUDIES.values():
        planned = {run.hash for run in study.runs(tuned_rate())}
        assert {one["hash"] for one in read_results(study.results)} <= planned


def test_equal_answers_are_the_same_however_they_are_spaced():
    reward = AnsweringReward(TASKS["walks"])
    item = {"start": [0, 0], "end": [1, 1], "moves": 2}
    assert [reward(item, text) for text in ("up right", "right  up ", "up up")] == [1.0, 1.0, 0.0]
    assert reward.answer(item, " up  right") == reward.answer(item, "up right") != reward.answer(item, "up")
    assert function_grader(reward).gives_answers


def claim(winner: str | None, low: float, withheld: str | None = None) -> dict[str, object]:
    return {"method": "two", "winner": winner, "adjusted_low": low, "withheld": withheld}


@pytest.mark.parametrize(
    ("variety", "accuracy", "claimed"),
    [
        (claim("two", 0.4), claim(None, -0.019), True),
        (claim("two", 0.4), claim(None, -0.02), False),
        (claim("two", 0.4), claim("one", -0.2), False),
        (claim(None, -0.19), claim("two", 0.01), True),
        (claim(None, -0.2), claim("two", 0.01), False),
        (claim(None, -0.1), claim(None, -0.01), False),
        (claim("two", 0.4, "12 runs have not ended"), claim("two", 0.1), None),
        (None, claim("two", 0.1), None),
    ],
)
def test_two_modes_beat_one_where_they_are_better_in_one_way_and_not_worse_in_the_other(
    variety: dict[str, object] | None, accuracy: dict[str, object] | None, claimed: bool | None
):
    found, reasons = two_modes_beat_one(variety, accuracy)
    assert found is claimed and reasons
    if claimed is not None:
        assert [reason.partition(":")[0] for reason in reasons] == [VARIETY.words, ACCURACY.words]


def result(run: PlannedRun, answers: dict[str, list[int]]) -> dict[str, object]:
    """As a run leaves it: 8 responses of each mode to each of 128 items, so many of each right answer."""
    outcomes = {
        mode: {
            "graded": [8] * 128,
            "correct": [sum(counts)] * 128,
            "reward": [sum(counts) / 8] * 128,
            "right_answers": [counts] * 128,
        }
        for mode, counts in answers.items()
    }
    costs = dict.fromkeys(("samples_generated", "tokens_generated", "tokens_trained", "seconds"), 1000.0)
    return {
        "hash": run.hash,
        "document": run.document,
        "status": "succeeded",
        "error": None,
        "outcomes": outcomes,
        "curves": {},
        "diagnostics": {},
        "cost": costs,
        "cpu_seconds": 20.0,
        "base_sha256": "0",
        "machine": {"torch": "2", "python": "3", "cpu": "x"},
    }


def test_the_report_is_made_from_whatever_is_there(tmp_path: Path):
    write_report(tmp_path / "none", tmp_path / "empty")
    text = (tmp_path / "empty" / "REPORT.md").read_text()
    assert "0 of 180 runs have succeeded" in text and text.count("not decided") == 5
    # Of the claim's two arms alone: two modes with four right answers beside one, one mode with two.
    done = [run for run in planned_runs() if run.arm in (PAIRS[0].two_modes, PAIRS[0].one_mode)]
    found = [
        result(run, {"N": [7, 0, 0, 0], "H": [2, 2, 2, 1]} if "lambda" in run.arm else {"N": [4, 3, 0, 0]})
        for run in done
    ]
    (tmp_path / "results").mkdir()
    lines = "".join(json.dumps(one) + "\n" for one in sorted(found, key=lambda one: str(one["hash"])))
    (tmp_path / "results" / "answers.jsonl").write_text(lines)
    analyses = write_report(tmp_path / "results", tmp_path / "some")
    assert set(analyses) == set(OF_ANSWERS)
    text = (tmp_path / "some" / "REPORT.md").read_text()
    assert (
        "20 of 180 runs have succeeded" in text and "**Every figure is provisional until all are.**" in text
    )
    # By outcome: variety of H, accuracy of N, variety of N; one mode's numbers are in all.
    assert "| lambda_1-none_pooled | 4.000 ± 0.000 | 0.875 ± 0.000 | 1.000 ± 0.000 | 5 |" in text
    assert "| grpo_unique | 2.000 ± 0.000 | 0.875 ± 0.000 | 2.000 ± 0.000 | 5 |" in text
    assert all(f"\n{outcome.words}:\n" in text for outcome in OUTCOMES)
    assert all(run.hash in (tmp_path / "some" / "report-answers.html").read_text() for run in done)
