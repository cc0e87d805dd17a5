"""The analysis of runs: who is compared with whom, on which items, and what is said in the end."""

from itertools import combinations

import numpy as np
import pytest

from trainer.statistics.analysis import analyse
from trainer.statistics.item_scores import item_values, metric_k, shared_ks
from trainer.statistics.outcomes import ModeOutcomes, Outcomes
from trainer.statistics.run_results import Plan, RunResult, summarised

ITEMS, DEV, SAMPLES = 60, 20, 8
ARMS = {"policy_split": 0.75, "grpo": 0.5, "grpo_2x": 0.55, "single_entropy": 0.5, "prompt_only": 0.5}


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


@pytest.mark.parametrize("seeds", [(2,), (0, 1, 2, 3)], ids=["one run", "a whole arm"])
def test_runs_on_another_number_of_items_are_named_and_count_nowhere(seeds: tuple[int, ...]):
    """Also where all runs of an arm are: they cannot be paired with the others item by item."""

    def cut(run: RunResult) -> RunResult:
        assert run.outcomes
        fewer = {
            mode: ModeOutcomes(graded=one.graded[:-5], correct=one.correct[:-5], reward=one.reward[:-5])
            for mode, one in run.outcomes.items()
        }
        return run.model_copy(update={"outcomes": fewer})

    of_others = [
        run.model_copy(update={"status": "failed", "outcomes": None})
        if run.arm == "grpo" and run.seed in seeds
        else run
        for run in runs()
    ]
    odd = [cut(run) for run in runs() if run.arm == "grpo" and run.seed in seeds]
    found = analyse(plan(), [*(run for run in of_others if run.outcomes), *odd], draws=200)
    without = analyse(plan(), of_others, draws=200)
    for part in ("claims", "against_method", "synergy", "arms"):
        assert found[part] == without[part]
    named = [note for note in found["notes"] if "55 items and the others on 60" in note]
    assert [f"grpo with seed {seed}" in note for seed, note in zip(seeds, named, strict=True)]
    assert found["progress"]["runs"] == len(runs())


def seeds_added(seeds: int, **changes) -> dict:
    """An analysis where two more seeds were added to the first ``seeds`` once their results could be seen."""
    chances = ARMS | {"freeze": 0.5}
    all_runs = [result(arm, seed, chance) for seed in range(seeds + 2) for arm, chance in chances.items()]
    fields = {"seeds": list(range(seeds + 2)), "seeds_before": [seeds]} | changes
    return analyse(plan(**fields), all_runs, draws=200)


def test_seeds_added_after_a_result_could_be_seen_decide_nothing():
    """Whoever adds seeds until a difference shows finds one where there is none."""
    found, before = seeds_added(4), analyse(plan(), runs(), draws=200)
    for part in ("claims", "against_method", "synergy", "winner"):
        assert found[part] == before[part]
    assert [one["seeds"] for one in found["arms"] if one["arm"] == "grpo"] == [list(range(6))]
    assert "Verdicts are those of the first 4 seeds: the other 2 were added" in "".join(found["notes"])


def test_analyses_that_were_planned_share_the_errors():
    found = seeds_added(4, analyses=2)
    assert found["method"]["alpha"] == 0.025
    (claim,) = found["claims"]
    assert claim["seeds"] == (0, 1, 2, 3, 4, 5) and claim["level"] == 0.0125
    assert "2 analyses were planned, of which this is number 2" in "".join(found["notes"])
    third = seeds_added(4, analyses=2, seeds_before=[3, 4])
    assert third["claims"][0]["seeds"] == (0, 1, 2, 3)


def means(arm: str) -> float:
    """By hand: the mean over seeds of an arm's accuracy on the test items."""
    return float(
        np.mean(
            [np.mean(r.outcomes["N"].correct[DEV:]) / SAMPLES for r in runs() if r.arm == arm and r.outcomes]
        )
    )


def test_the_claim_is_that_every_baseline_is_beaten():
    found = analyse(plan(), runs(), draws=2000)
    (claim,) = found["claims"]
    assert claim["against"] == ["grpo", "grpo_2x"] and claim["baseline"] == "grpo_2x"  # the harder one
    assert (claim["items"], claim["seeds"]) == (ITEMS - DEV, (0, 1, 2, 3))
    assert claim["delta"] == pytest.approx(means("policy_split") - means("grpo_2x"))
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert set(rows) == set(plan().arms) - {"policy_split"}
    # No correction for the number of baselines: its p is that of the harder one.
    assert (
        claim["claim_p"]
        == claim["holm_p"]
        == rows["grpo_2x"]["p"]
        == max(rows[arm]["p"] for arm in ("grpo", "grpo_2x"))
    )
    assert found["winner"]["arm"] == "policy_split"
    assert found["winner"]["sentence"] == "policy_split is better than every baseline on every task (sums)."
    assert found["synergy"][0]["claimed"] is True
    # The two families share the five percent.
    assert claim["level"] == rows["grpo"]["level"] == 0.025
    others = sorted(one["p"] for one in rows.values())
    assert min(one["holm_p"] for one in rows.values()) == pytest.approx(len(rows) * others[0])
    for one in rows.values():
        assert one["separated"] == (one["holm_p"] <= 0.025)
        assert one["separated"] == (not one["adjusted_low"] <= 0 <= one["adjusted_high"])


def test_a_claim_against_every_baseline_never_names_a_baseline():
    """That the method is worse than one of them is said by its own comparison, which is corrected."""
    found = analyse(plan(method="grpo", baselines=["policy_split", "prompt_only"]), runs(), draws=200)
    (claim,) = found["claims"]
    assert claim["baseline"] == "policy_split" and claim["delta"] < -0.15 and claim["p"] < 0.01
    assert claim["claim_p"] == 1.0 and claim["winner"] is None and found["winner"]["arm"] is None
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert rows["policy_split"]["winner"] == "policy_split"
    assert "better than it: policy_split; not separated: prompt_only." in claim["verdict"]


def test_an_arm_that_was_named_beforehand_is_met_alone_and_may_win():
    found = analyse(plan(method="grpo", baselines=["grpo_2x", "prompt_only"], against="policy_split"), runs())
    (claim,) = found["claims"]
    assert claim["against"] == ["policy_split"]
    assert claim["delta"] == pytest.approx(means("grpo") - means("policy_split"))
    assert claim["winner"] == "policy_split" == found["winner"]["arm"]
    assert found["winner"]["sentence"] == "policy_split is better than grpo on every task (sums)."
    # It is tested once: its row among all arms is the claim's, and does not count among the others.
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert rows["policy_split"]["holm_p"] == claim["holm_p"] == claim["p"]
    del rows["policy_split"]
    assert min(one["holm_p"] for one in rows.values()) == pytest.approx(
        len(rows) * min(one["p"] for one in rows.values())
    )


def test_the_simpler_explanation_is_said():
    (rule,) = analyse(plan(), runs(chance=0.75), draws=500)["synergy"]
    assert rule["claimed"] is False
    (reason,) = rule["reasons"]
    assert reason.startswith("not shown to be better than freeze (")


def test_dev_items_count_in_no_comparison():
    """An arm that is good on the dev items alone is as good as before in every claim."""
    before = analyse(plan(), runs(), draws=100)
    spoiled = []
    for run in runs():
        if run.arm == "grpo":
            assert run.outcomes is not None
            run.outcomes["N"].correct[:DEV] = [SAMPLES] * DEV
        spoiled.append(run)
    after = analyse(plan(), spoiled, draws=100)
    assert after["claims"] == before["claims"] and after["against_method"] == before["against_method"]
    assert after["arms"][1]["dev"]["mean"] > before["arms"][1]["dev"]["mean"]


def test_failed_runs_are_listed_and_their_arm_is_not_one_that_a_claim_is_about():
    every = runs()
    index = next(n for n, run in enumerate(every) if run.arm == "grpo_2x" and run.seed == 1)
    every[index] = result("grpo_2x", 1, 0.6, status="failed", outcomes=None, error="out_of_memory: no memory")
    found = analyse(plan(), every, draws=500)
    (claim,) = found["claims"]
    assert claim["against"] == ["grpo"] and claim["left_out"] == ["grpo_2x"]
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert rows["grpo_2x"]["seeds"] == (0, 2, 3) and rows["grpo"]["seeds"] == (0, 1, 2, 3)
    assert found["progress"]["failed"] == 1
    assert [r["error"] for r in found["runs"] if r["status"] == "failed"] == ["out_of_memory: no memory"]
    assert any("failed or were cancelled: 1;" in note for note in found["notes"])
    assert any("claims leave out baselines without all planned seeds: grpo_2x" in n for n in found["notes"])


@pytest.mark.parametrize("status", ["waiting", "queued", "running", None])
def test_no_verdict_while_a_planned_run_has_not_ended(status: str | None):
    """Who looks until it suits finds a difference; a run that nobody has heard of waits, too."""
    every = [one for one in runs() if (one.arm, one.seed) != ("freeze", 3)]
    if status is not None:
        every.append(result("freeze", 3, 0.5, status=status, outcomes=None))
    found = analyse(plan(), every, draws=100)
    assert found["winner"] == {
        "arm": None,
        "sentence": "No verdict yet: 1 of 24 planned runs have not ended.",
    }
    for one in (*found["claims"], *found["against_method"]):
        assert one["winner"] is None and not one["separated"] and one["withheld"].startswith("1 of 24")
    assert found["synergy"][0]["claimed"] is None
    assert any("there is no verdict before then" in note for note in found["notes"])


def test_arms_that_are_the_same_to_the_last_answer_are_said_to_be_and_count_once():
    twins = [run.model_copy(update={"arm": "cispo"}) for run in runs() if run.arm == "grpo"]
    found = analyse(plan(arms=[*plan().arms, "cispo"]), [*runs(), *twins], draws=100)
    assert found["same_runs"] == [{"task": "sums", "arms": ["grpo", "cispo"]}]
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert rows["grpo"]["holm_p"] == rows["cispo"]["holm_p"]
    alone = {one["baseline"]: one["holm_p"] for one in analyse(plan(), runs(), draws=100)["against_method"]}
    assert {name: rows[name]["holm_p"] for name in alone} == alone
    assert any("the runs of grpo, cispo are identical to the last answer" in note for note in found["notes"])


def test_exploratory_arms_claim_nothing_and_cost_nothing():
    found = analyse(plan(exploratory=["prompt_only"], controls={}), runs(), draws=100)
    rows = {one["baseline"]: one for one in found["against_method"]}
    assert rows["prompt_only"]["withheld"] == "exploratory" and rows["prompt_only"]["winner"] is None
    others = [one["p"] for name, one in rows.items() if name != "prompt_only"]
    assert rows["grpo"]["holm_p"] <= len(others) * max(others)
    assert min(rows[name]["holm_p"] for name in rows if name != "prompt_only") == pytest.approx(
        len(others) * min(others)
    )


def test_equal_arms_at_the_ceiling_have_an_interval():
    """All answers right in both: no difference was seen, which is not the same as that there is none."""
    right = np.ones(ITEMS)
    every = [
        result(arm, seed, 0.5, outcomes={"N": outcomes(right, np.random.default_rng(0))})
        for seed in range(4)
        for arm in plan().arms
    ]
    found = analyse(plan(), every, draws=100)
    one = found["against_method"][0]
    assert one["p"] == 1.0 and -0.2 < one["low"] < 0 < one["high"] < 0.2 and one["winner"] is None
    assert found["arms"][0]["test"]["high"] == 1.0 > found["arms"][0]["test"]["low"] > 0.8


def test_nothing_yet_is_a_report_too():
    waiting = [result("grpo", 0, 0.5, status="waiting", outcomes=None)]
    found = analyse(plan(), waiting, draws=100)
    assert found["claims"] == [] and found["winner"]["arm"] is None
    assert found["synergy"][0]["claimed"] is None
    assert found["arms"][0]["test"] is None


def test_pass_at_k_by_mode_and_mixed_at_equal_budget():
    (arm,) = [one for one in analyse(plan(), runs(), draws=100)["arms"] if one["arm"] == "policy_split"]
    curves = arm["pass_at_k"]
    assert [point["k"] for point in curves["N"]] == [1, 2, 4, 8]
    assert [point["k"] for point in curves["mix"]] == [2, 4, 8, 16]
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
        with pytest.raises(ValueError, match="is not a metric"):
            metric_k(wrong)
    with pytest.raises(ValueError, match="different lengths"):
        ModeOutcomes(graded=[1], correct=[], reward=[1.0])


def test_different_right_answers_of_an_item_by_enumeration():
    """One mode, and half of the draws from each: every subset of the samples counted."""
    answers = {"N": [0, 0, 1, None], "H": [1, 2, 3, None]}  # None: a wrong one
    outcomes: Outcomes = {
        "N": ModeOutcomes(graded=[4], correct=[3], reward=[0.75], right_answers=[[2, 1, 0, 0]]),
        "H": ModeOutcomes(graded=[4], correct=[3], reward=[0.75], right_answers=[[0, 1, 1, 1]]),
    }
    for mode in ("N", "H"):
        for k in (1, 2, 4):
            drawn = [len(set(one) - {None}) for one in combinations(answers[mode], k)]
            found = item_values(outcomes, f"distinct_right@{k}", mode)
            assert found.tolist() == [pytest.approx(np.mean(drawn))]
    mixed = [
        len({*first, *second} - {None})
        for first in combinations(answers["N"], 2)
        for second in combinations(answers["H"], 2)
    ]
    assert item_values(outcomes, "distinct_right@4", "mix").tolist() == [pytest.approx(np.mean(mixed))]
    assert np.isnan(item_values(outcomes, "distinct_right@8", "N")).all()
    unknown: Outcomes = {
        mode: one.model_copy(update={"right_answers": None}) for mode, one in outcomes.items()
    }
    assert np.isnan(item_values(unknown, "distinct_right@2", "mix")).all()
    assert "right_answers" not in ModeOutcomes(graded=[1], correct=[1], reward=[1.0]).model_dump()
    with pytest.raises(ValueError, match="add up"):
        ModeOutcomes(graded=[2], correct=[2], reward=[1.0], right_answers=[[1]])


def test_a_claim_about_different_right_answers():
    """In answers, not shares: a difference of three of them is within bounds."""

    def answered(run: RunResult) -> RunResult:
        kinds = 4 if run.arm == "policy_split" else 1
        modes = {
            mode: one.model_copy(update={"right_answers": [_spread(c, kinds) for c in one.correct]})
            for mode, one in (run.outcomes or {}).items()
        }
        return run.model_copy(update={"outcomes": modes})

    all_runs = [answered(run) for run in runs()]
    found = analyse(plan(metric="distinct_right@8"), all_runs, draws=100)
    by_arm = {arm["arm"]: arm for arm in found["arms"]}
    assert by_arm["grpo"]["test"]["mean"] == pytest.approx(1.0, abs=0.02)
    assert by_arm["policy_split"]["test"]["mean"] > 3
    assert [point["k"] for point in by_arm["policy_split"]["distinct_right_at_k"]["mix"]] == [2, 4, 8, 16]
    assert found["winner"]["arm"] == "policy_split" and found["claims"][0]["delta"] > 2


def _spread(count: int, kinds: int) -> list[int]:
    """``count`` responses over so many answers, as evenly as can be."""
    return [count // kinds + (place < count % kinds) for place in range(kinds)]


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
