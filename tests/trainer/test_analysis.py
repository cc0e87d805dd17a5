"""The analysis of runs: who is compared with whom, on which items, and what is said in the end."""

import numpy as np
import pytest

from trainer.statistics.analysis import analyse
from trainer.statistics.item_scores import item_values, metric_k, shared_ks
from trainer.statistics.outcomes import ModeOutcomes, Outcomes
from trainer.statistics.run_results import Plan, RunResult, summarised

ITEMS, DEV, SAMPLES = 60, 20, 4
ARMS = {"policy_split": 0.75, "grpo": 0.5, "grpo_2x": 0.6, "single_entropy": 0.5, "prompt_only": 0.5}


def outcomes(chances: np.ndarray, random: np.random.Generator) -> ModeOutcomes:
    correct = random.binomial(SAMPLES, chances)
    return ModeOutcomes(
        graded=[SAMPLES] * len(correct), correct=correct.tolist(), reward=(correct / SAMPLES).tolist()
    )


def result(arm: str, seed: int, chance: float, task: str = "sums", **changes) -> RunResult:
    random = np.random.default_rng([seed, len(arm)])
    chances = np.clip(chance + 0.2 * np.random.default_rng(5).normal(size=ITEMS), 0, 1)
    modes = {"N": outcomes(chances, random)}
    if arm == "policy_split":
        modes["H"] = outcomes(chances * 0.8, random)
    fields = {"status": "succeeded", "outcomes": modes, "seconds": 10.0 + seed, "id": f"{arm}-{seed}"}
    return RunResult(arm=arm, task=task, seed=seed, **(fields | changes))


def plan(**changes) -> Plan:
    fields = {
        "arms": [*ARMS, "freeze"],
        "tasks": ["sums"],
        "seeds": [0, 1, 2, 3],
        "dev_items": DEV,
        "method": "policy_split",
        "baselines": ["grpo", "grpo_2x"],
        "controls": {name: name for name in ("grpo_2x", "single_entropy", "prompt_only")}
        | {"freeze_loss": "freeze"},
    }
    return Plan(**(fields | changes))


def runs(**freeze) -> list[RunResult]:
    chances = ARMS | {"freeze": freeze.get("chance", 0.5)}
    return [result(arm, seed, chance) for seed in range(4) for arm, chance in chances.items()]


def test_the_strongest_on_dev_is_met_once_on_test():
    found = analyse(plan(), runs(), draws=2000)
    (claim,) = found["claims"]
    assert (claim["baseline"], claim["items"], claim["seeds"]) == ("grpo_2x", ITEMS - DEV, (0, 1, 2, 3))
    assert claim["delta"] == pytest.approx(0.15, abs=0.07)
    # By hand: the mean over seeds of the difference of test accuracies.
    means = {
        arm: np.mean(
            [np.mean(r.outcomes["N"].correct[DEV:]) / 4 for r in runs() if r.arm == arm and r.outcomes]
        )
        for arm in ("policy_split", "grpo_2x")
    }
    assert claim["delta"] == pytest.approx(means["policy_split"] - means["grpo_2x"])
    assert found["winner"]["arm"] == "policy_split"
    assert found["synergy"][0]["claimed"] is True
    assert {one["baseline"] for one in found["against_method"]} == set(plan().arms) - {"policy_split"}


def test_the_simpler_explanation_is_said():
    (rule,) = analyse(plan(), runs(chance=0.75), draws=500)["synergy"]
    assert rule["claimed"] is False
    (reason,) = rule["reasons"]
    assert reason.startswith("not shown to be better than freeze (")


def test_a_dev_split_keeps_its_items_out_of_the_test():
    """An arm that is good on the dev items alone is chosen there and loses on the test items."""
    spoiled = []
    for run in runs():
        if run.arm == "grpo":
            assert run.outcomes is not None
            lucky = run.outcomes["N"]
            lucky.correct[:DEV] = [SAMPLES] * DEV
        spoiled.append(run)
    (claim,) = analyse(plan(), spoiled, draws=500)["claims"]
    assert claim["baseline"] == "grpo" and claim["delta"] == pytest.approx(0.25, abs=0.08)


def test_failed_runs_are_listed_and_their_pairs_missing():
    every = runs()
    index = next(n for n, run in enumerate(every) if run.arm == "grpo_2x" and run.seed == 1)
    every[index] = result("grpo_2x", 1, 0.6, status="failed", outcomes=None, error="out_of_memory: no memory")
    found = analyse(plan(), every, draws=500)
    assert found["claims"][0]["seeds"] == (0, 2, 3)
    assert found["progress"]["failed"] == 1
    assert [r["error"] for r in found["runs"] if r["status"] == "failed"] == ["out_of_memory: no memory"]
    assert any("failed or were cancelled: 1;" in note for note in found["notes"])
    assert any("p = 0.25" in note for note in found["notes"])


def test_nothing_yet_is_a_report_too():
    waiting = [result("grpo", 0, 0.5, status="waiting", outcomes=None)]
    found = analyse(plan(), waiting, draws=100)
    assert found["claims"] == [] and found["winner"]["arm"] is None
    assert found["synergy"][0]["claimed"] is None
    assert found["arms"][0]["test"] is None


def test_pass_at_k_by_mode_and_mixed_at_equal_budget():
    (arm,) = [one for one in analyse(plan(), runs(), draws=100)["arms"] if one["arm"] == "policy_split"]
    curves = arm["pass_at_k"]
    assert [point["k"] for point in curves["N"]] == [1, 2, 4]
    assert [point["k"] for point in curves["mix"]] == [2, 4, 8]
    assert curves["N"][0]["mean"] == pytest.approx(arm["test"]["mean"])
    assert curves["H"][0]["mean"] < curves["N"][0]["mean"]
    grpo = next(one for one in analyse(plan(), runs(), draws=100)["arms"] if one["arm"] == "grpo")
    assert list(grpo["pass_at_k"]) == ["N"]


def test_item_values():
    n = ModeOutcomes(graded=[4, 4, 0], correct=[1, 4, 0], reward=[0.25, 1.0, None])
    h = ModeOutcomes(graded=[4, 4, 4], correct=[0, 4, 2], reward=[0.0, 1.0, 0.5])
    both: Outcomes = {"N": n, "H": h}
    assert item_values(both, "accuracy", "N").tolist()[:2] == [0.25, 1.0]
    assert np.isnan(item_values(both, "accuracy", "N")[2]) and np.isnan(item_values(both, "reward", "N")[2])
    assert item_values(both, "pass@2", "N")[0] == pytest.approx(1 / 2)
    # One sample each: N fails 3 times in 4, H always.
    assert item_values(both, "pass@2", "mix")[0] == pytest.approx(1 / 4)
    assert (
        np.isnan(item_values(both, "pass@8", "H")).all()
        and not np.isnan(item_values(both, "pass@8", "mix"))[1]
    )
    assert item_values({"N": n}, "pass@2", "mix")[0] == pytest.approx(1 / 2)
    assert shared_ks(both, "N") == [1, 2, 4] and shared_ks(both, "mix") == [2, 4, 8]
    for wrong in ("pass@0", "pass@x", "loss", "pass"):
        with pytest.raises(ValueError, match="is no metric"):
            metric_k(wrong)
    with pytest.raises(ValueError, match="different lengths"):
        ModeOutcomes(graded=[1], correct=[], reward=[1.0])


def test_curves_and_diagnostics_of_a_run():
    curves, diagnostics = summarised(
        {
            "eval/N/accuracy": [(0, 0.1), (5, 0.4)],
            "diag/grad_cos": [(1, 0.2), (5, 0.4)],
            "eval/kl_H_N/prefix_H": [(0, 0.0), (5, 0.2)],
            "time/generate": [(1, 3.0)],
        }
    )
    assert curves["eval/N/accuracy"] == [(0, 0.1), (5, 0.4)]
    assert diagnostics == pytest.approx({"diag/grad_cos": 0.3, "eval/kl_H_N/prefix_H": 0.2})
