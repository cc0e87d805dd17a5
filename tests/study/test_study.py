"""The study: its verifiers against enumeration, its plan, and that it goes on where it was stopped."""

import hashlib
import json
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import study.base_model as base_model
from app.cli.judging import read_judging
from app.experiments.requests import job_request
from app.experiments.schemas import CreateExperiment
from study import smollm2
from study.__main__ import reproduce
from study.base_model import HIGH_ENTROPY_PROMPT, NEUTRAL_PROMPT
from study.design import ABLATIONS, BASELINES, all_arms, analysis_plan, planned_run, planned_runs
from study.hypotheses import hypotheses
from study.planned_run import PlannedRun
from study.report import write_report
from study.results import add_result, read_results
from study.runner import run_missing
from study.studies import OF_THE_METHOD, RESULTS
from study.tasks import MOVES, TASKS, VALIDATION_ITEMS, split_items
from trainer.ablations import ablation_names
from trainer.algorithms import ALGORITHMS
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.run import RolloutSpec
from trainer.statistics.outcomes import ModeOutcomes
from trainer.statistics.run_results import Plan, RunResult


def every_text(task: str, item: dict) -> list[str]:
    """All texts of the right form."""
    if task == "sums":
        return [" + ".join(map(str, four)) for four in product(range(1, 10), repeat=4)]
    return [" ".join(way) for way in product(MOVES, repeat=item["moves"])]


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_all_that_the_verifier_takes(task: str):
    _, validation = split_items(TASKS[task])
    for item in validation[:6]:
        correct = {text for text in every_text(task, item) if TASKS[task].correct(item, text)}
        assert correct == set(TASKS[task].answers(item)) and len(correct) >= 4


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        ("sums", ["", "5 + 9", "5 + 9 + 7 + 1 + 1", "5 9 7 1", "5 + 9 + 7 + one", "10 + 5 + 9 + 1"]),
        ("walks", ["", "up", "fly"]),
    ],
)
def test_what_is_no_answer_is_wrong(task: str, wrong: list[str]):
    item = TASKS[task].items()[40]
    assert not any(TASKS[task].correct(item, text) for text in wrong)
    exchanged = [TASKS[task].wrong(TASKS[task].answers(item)[0], random.Random(n)) for n in range(40)]
    assert 0 < sum(TASKS[task].correct(item, text) for text in exchanged) < 40


def test_validation_items_are_never_trained():
    for task in TASKS.values():
        training, validation = split_items(task)
        assert len(validation) == VALIDATION_ITEMS and len(training) > 400
        assert not {one["question"] for one in training} & {one["question"] for one in validation}


def test_the_plan_is_complete_and_each_run_has_a_hash_of_its_own():
    assert {arm.partition("@")[0] for arm in ABLATIONS} == set(ablation_names())
    assert {*BASELINES, "grpo", "policy_split"} == set(ALGORITHMS)
    runs = planned_runs(1e-3)
    assert len(runs) == len({run.hash for run in runs}) == len(all_arms()) * 2 * 5
    assert set(analysis_plan().baselines) <= set(all_arms())
    assert len(HIGH_ENTROPY_PROMPT.split()) == len(NEUTRAL_PROMPT.split())
    # Arms differ in what they are about alone.
    one, other = (
        planned_run("sums", arm, 3, 1e-3).document["run"] for arm in ("policy_split", "prompt_only")
    )
    assert {key for key in one if one[key] != other[key]} == {"algorithm"}


def test_the_runs_on_smollm2_are_planned_and_validation_items_are_never_trained():
    runs = smollm2.planned_runs()
    assert len(runs) == len({run.hash for run in runs}) == 5 * 2 * 3
    assert {run.study for run in runs} == {"smollm2"}
    assert set(smollm2.analysis_plan().baselines) <= set(smollm2.ARMS)
    for task in smollm2.TASKS:
        training, validation = smollm2.split_items(task)
        assert len(validation) == smollm2.DEV_ITEMS + smollm2.TEST_ITEMS and len(training) > 100
        asked = [{one["messages"][0]["content"] for one in items} for items in (training, validation)]
        assert len(asked[1]) == len(validation) and not asked[0] & asked[1]
        reward = smollm2.reward_of(task)
        item = validation[0]
        assert reward(item, f"It must be {item['answer']}.") == 1.0
        assert reward(item, "No idea.") == 0.0


def short_run(arm: str, seed: int) -> PlannedRun:
    """A planned run of two steps on few items."""
    document = json.loads(json.dumps(planned_run("sums", arm, seed, 1e-3).document))
    rollout = RolloutSpec(prompts_per_step=2, samples_per_prompt=4, max_response_tokens=8)
    document["run"] |= {
        "total_steps": 2,
        "rollout": rollout.model_dump(mode="json"),
        "evaluation": EvaluationSpec(max_items=40, samples_per_item=2).model_dump(mode="json"),
    }
    return PlannedRun("sums", arm, seed, document)


def test_it_goes_on_where_it_was_and_a_run_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(base_model, "STEPS", 3)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    results, work = tmp_path / "results" / "tiny.jsonl", tmp_path / "work" / "tiny"
    base_model.build_base_model(work / "model")
    # An untrained model solves nothing, so nothing but an entropy in the loss moves it.
    runs = [short_run("entropy_bonus", 0), short_run("policy_split", 0), short_run("entropy_bonus", 1)]
    assert run_missing(runs[:2], results=results, folder=work) == 2
    before = results.read_text().splitlines()
    assert run_missing(runs, results=results, folder=work) == 1
    assert set(before) < set(results.read_text().splitlines()) and len(before) == 2
    found = {one["hash"]: one for one in read_results(results)}
    assert set(found) == {run.hash for run in runs}
    assert {one["status"] for one in found.values()} == {"succeeded"}
    first, second = found[runs[0].hash], found[runs[2].hash]
    assert first["weights_sha256"] != second["weights_sha256"]
    assert first["base_sha256"] == second["base_sha256"]
    both = found[runs[1].hash]["outcomes"]
    assert set(both) == {"N", "H"} and len(both["N"]["graded"]) == 40
    assert first["cost"]["samples_generated"] == 16

    assert reproduce(runs[0].hash[:8], results.parent, work.parent) == 0
    assert capsys.readouterr().out.count("the same") == 5
    spoiled = first | {"weights_sha256": "0" * 64}
    others = [one for one in found.values() if one is not first]
    results.write_text("".join(json.dumps(one) + "\n" for one in (*others, spoiled)))
    assert reproduce(runs[0].hash, results.parent, work.parent) == 1
    assert reproduce("zzzz", results.parent, work.parent) == 2
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_results_are_only_added_sorted_and_whole(tmp_path: Path):
    """Also by two at a time, and where a writer was killed while it wrote."""
    path = tmp_path / "results" / "x.jsonl"
    assert list(read_results(path)) == []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: add_result({"hash": f"{n:02x}", "value": n}, path), reversed(range(20))))
    path.with_suffix(".partial").write_text('{"hash": "cut o')
    add_result({"hash": "03", "value": "another"}, path)
    found = list(read_results(path))
    assert found == [{"hash": f"{n:02x}", "value": n} for n in range(20)]
    assert path.read_text().count("\n") == 20


def test_committed_results_are_in_the_order_of_their_hashes_and_named_by_their_documents():
    for name in ("tiny", "smollm2", "tuning"):
        found = list(read_results(RESULTS / f"{name}.jsonl"))
        hashes = [one["hash"] for one in found]
        assert hashes == sorted(set(hashes)) and len(found) == {"tiny": 330, "smollm2": 30, "tuning": 6}[name]
        for one in found:
            document = one["document"]
            run = PlannedRun(document["task"], document["arm"], document["seed"], document)
            assert run.hash == one["hash"]
            told = json.dumps(one["outcomes"])
            assert hashlib.sha256(told.encode()).hexdigest() == one["outcomes_sha256"]


def test_the_report_of_nothing_says_so(tmp_path: Path):
    write_report(tmp_path / "none", tmp_path, tmp_path / "none")
    text = (tmp_path / "REPORT.md").read_text()
    assert "0 of 330 runs have succeeded" in text and "Every figure is provisional" in text
    assert "0 of 30 runs have succeeded" in text
    assert "| 8B | 73.94 | 74.27 | 74.50 | 75.15 | 71.49 |" in text


def test_the_report_can_be_written_again_from_the_committed_results(tmp_path: Path):
    analyses = write_report(folder=tmp_path)
    for name, study in OF_THE_METHOD.items():
        done = list(read_results(study.results))
        progress = analyses[name]["progress"]
        assert progress["succeeded"] + progress["failed"] == len(done)
        page = (tmp_path / f"report-{name}.html").read_text()
        assert all(one["hash"] in page for one in done)
        legend = re.findall(r'<line [^>]*stroke="([^"]+)" stroke-width="3"([^>]*)/><text[^>]*>([^<]+)<', page)
        # An arm looks the same in all charts, and no two look alike.
        looks = {(colour, dash) for colour, dash, _ in legend}
        assert len(looks) == len({arm for _, _, arm in legend}) == len(set(legend)) > 4
    text = (tmp_path / "REPORT.md").read_text()
    pictures = re.findall(r"!\[[^]]+\]\((figures/[^)]+\.svg)\)", text)
    assert "figures/tiny-sums-differences.svg" in pictures
    for picture in pictures:
        root = ElementTree.fromstring((tmp_path / picture).read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and "policy_split" in "".join(root.itertext())
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {Path(one).name for one in pictures}


def test_each_hypothesis_says_what_was_seen_and_whether_it_holds():
    def run(arm: str, seed: int, h: float, correct_h: int) -> RunResult:
        def graded(correct: int) -> ModeOutcomes:
            return ModeOutcomes(reward=[correct / 8] * 4, graded=[8] * 4, correct=[correct] * 4)

        return RunResult(
            arm=arm,
            task="sums",
            seed=seed,
            status="succeeded",
            outcomes={"N": graded(1), "H": graded(correct_h)},
            curves={"eval/kl_H_N/prefix_H": [(0, 0.5), (100, 0.1 + seed / 100)]},
            diagnostics={"eval/H/entropy_nats": h, "eval/N/entropy_nats": 1.0},
        )

    plan = Plan(
        arms=["new", "old"], tasks=["sums"], seeds=[0, 1], dev_items=1, method="new", baselines=["old"]
    )
    runs = [run("new", 0, 1.5, 0), run("new", 1, 1.6, 0), run("old", 0, 0.0, 8), run("old", 1, 3.0, 0)]
    analysis = {"plan": plan.model_dump(), "claims": [], "progress": {"runs": 4, "succeeded": 4}}
    table = hypotheses(analysis, runs, "old").splitlines()
    assert "All 3 are one family" in table[0]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table[3:]]
    # Student's quantile for two seeds: 0.05 each way is ±0.635 at 95 %. Of the three p, .058, .008 and 1/3 of
    # it, only the edge's is Holm's at most 0.05: all items the same, of four that is no more than 2 (2/3)^3.
    shown = {row[0][:3]: row[2:] for row in cells}
    assert shown["(a)"][0].startswith("+0.5500 [") and shown["(a)"][3] == "not decided"
    assert float(shown["(a)"][1]) == pytest.approx(0.0577, abs=1e-4)
    assert float(shown["(b)"][1]) == pytest.approx(0.0081, abs=1e-4)
    assert float(shown["(b)"][2]) == pytest.approx(3 * 0.00806, abs=1e-4) and shown["(b)"][3] == "no"
    # 1 − C(7,4)/C(8,4) with four of the normal mode in the place of 1: half, in each of three items.
    # At the chance of 1 - 0.05 / 2 (one of three is rejected) a share of 1 - 0.0125^(1/3) may be otherwise.
    assert shown["(c)"][0] == "−0.5000 [−0.8840, +0.6519]"
    assert float(shown["(c)"][1]) == pytest.approx(2 / 1.5**3, abs=1e-4) and shown["(c)"][3] == "not decided"
    assert shown["(a)"][4] == "+0.5000 [−18.5593, +19.5593]"


@pytest.mark.parametrize("name", ["headline_smollm2", "creative_writing"])
def test_the_templates_are_experiments(name: str):
    text = (Path(base_model.__file__).parent / "templates" / f"{name}.yaml").read_text()
    experiment = CreateExperiment.model_validate(yaml.safe_load(text))
    for task, arm in product(experiment.tasks, experiment.arms):
        assert job_request(experiment, "exp_x", arm, task, experiment.seeds[0]).seed == experiment.seeds[0]


def test_the_judging_template_can_be_read():
    path = Path(base_model.__file__).parent / "templates" / "judging.yaml"
    assert read_judging(path).judge.scale == 10
