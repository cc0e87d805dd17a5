"""Evaluation: sampling settings, what responses with known rewards amount to, and the names of it all."""

import math
from pathlib import Path

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy
from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import tiny_spec, write_rows
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.data.items import load_items
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.outcomes import accuracy_metrics, diversity_metrics
from trainer.graders.build import build_grader
from trainer.graders.spec import StringCheckGrader
from trainer.model.policy import Policy
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine, _draw
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.modes import Mode
from trainer.spec.run import RunSpec
from trainer.spec.taught import Taught
from trainer.types import Group, Rollout

STOP = frozenset({0})


def answered(index: int, normal: list[tuple[str, float]], high: list[tuple[str, float]]) -> Group:
    """A group whose responses are the given texts, a token a letter, with their rewards."""
    group = Group(index, index, {}, [], {N: [1], H: [1, 2]})
    for mode, responses in ((N, normal), (H, high)):
        for text, reward in responses:
            ids = [*map(ord, text), 0]
            rollout = Rollout(mode, ids, [0.0] * len(ids), False, text=text, reward=reward, answer=text)
            group.rollouts.append(rollout)
    return group


def test_outcomes_by_hand():
    """Item 0: N right 2 of 4, H 1 of 4. Item 1: N never, H always."""
    wrong, right = ("b", 0.5), ("a", 1.0)
    groups = [
        answered(0, [right, right, wrong, wrong], [right, wrong, wrong, wrong]),
        answered(1, [wrong] * 4, [right] * 4),
    ]
    found = accuracy_metrics(groups, (N, H), votes=True)
    expected = {
        "eval/N/accuracy": (0.5 + 0) / 2,
        "eval/H/accuracy": (0.25 + 1) / 2,
        "eval/N/pass@1": (0.5 + 0) / 2,
        "eval/N/pass@2": (1 - 1 / 6) / 2,
        "eval/N/pass@4": 0.5,
        "eval/H/pass@1": (0.25 + 1) / 2,
        "eval/H/pass@2": (0.5 + 1) / 2,
        "eval/H/pass@4": 1.0,
        "eval/N/maj@1": (0.5 + 0) / 2,
        "eval/N/maj@2": (0.5 + 0) / 2,  # aa, bb
        "eval/N/maj@4": (0.5 + 0) / 2,  # a tie
        "eval/H/maj@1": (0.25 + 1) / 2,
        "eval/H/maj@2": (0.25 + 1) / 2,  # ab, bb
        "eval/H/maj@4": (0 + 1) / 2,
        "eval/mix/pass@2": (1 - 0.5 * 0.75 + 1) / 2,
        "eval/mix/pass@4": (1 - 1 / 6 * 1 / 2 + 1) / 2,
        "eval/mix/pass@8": 1.0,
        # Two draws of each mode: N fails item 0 with 1/6, H with 1/2.
        "eval/only_H": (1 / 6 * 1 / 2 + 1) / 2,
        "eval/only_N": (5 / 6 * 1 / 2 + 0) / 2,
        "eval/only_second_draw_N": (1 / 6 + 0) / 2,
        "eval/only_second_draw_H": (1 / 2 + 0) / 2,
    }
    # One answer is right, so there is one or none.
    expected |= {
        name.replace("pass@", "distinct_right@"): x for name, x in expected.items() if "pass@" in name
    }
    assert found == pytest.approx(expected)


def test_different_right_answers_are_counted_by_mode_and_mixed():
    """N gives one right answer four times, H two of them and a third; a wrong one counts nowhere."""
    normal = [("a", 1.0)] * 4
    high = [("a", 1.0), ("b", 1.0), ("c", 1.0), ("x", 0.0)]
    found = accuracy_metrics([answered(0, normal, high)], (N, H), votes=True)
    assert [found[f"eval/N/distinct_right@{k}"] for k in (1, 2, 4)] == [1.0, 1.0, 1.0]
    assert [found[f"eval/H/distinct_right@{k}"] for k in (1, 2, 4)] == pytest.approx([0.75, 1.5, 3.0])
    # Half of the draws from N, which always holds "a"; b and c are H's alone.
    assert found["eval/mix/distinct_right@2"] == pytest.approx(1 + 2 / 4)
    assert found["eval/mix/distinct_right@8"] == pytest.approx(3.0)


def test_one_mode_and_ungraded_responses():
    """Responses without a reward count nowhere; one mode has nothing to mix."""
    group = answered(0, [("a", 1.0), ("b", 0.0), ("c", 0.0)], [])
    group.rollouts[2].reward = None
    found = accuracy_metrics([group], (N,), votes=True)
    assert found == pytest.approx(
        {"eval/N/accuracy": 0.5, **{f"eval/N/{m}@1": 0.5 for m in ("pass", "maj", "distinct_right")}}
        | {"eval/N/pass@2": 1.0, "eval/N/maj@2": 0.5, "eval/N/distinct_right@2": 1.0}
    )
    assert accuracy_metrics([answered(0, [], [])], (N, H), votes=True) == {}


def test_diversity_is_compared_on_equal_terms():
    """As it stands H is more diverse, being shorter and rarer alone; matched, the modes are the same."""
    normal = [("abcdabcd", 1.0), ("abcdabcd", 1.0), ("abcdabcd", 0.0), ("abcdabcd", 0.0)]
    high = [("abcd", 1.0), ("abcd", 1.0)]
    found = diversity_metrics([answered(0, normal, high)], (N, H), STOP)
    assert found["eval/N/distinct1"] == pytest.approx(4 / 32)
    assert found["eval/H/distinct1"] == pytest.approx(4 / 8)
    for mode in "NH":
        for suffix in ("_matched", "_correct"):
            assert found[f"eval/{mode}/distinct1{suffix}"] == pytest.approx(4 / 8)
            assert found[f"eval/{mode}/distinct2{suffix}"] == pytest.approx(3 / 6)
            assert found[f"eval/{mode}/self_bleu4{suffix}"] == pytest.approx(0.0)
    assert found["eval/N/repetition"] == pytest.approx(1 - 4 / 5)
    assert found["eval/H/repetition"] == pytest.approx(0.0)


def test_diversity_of_correct_responses_needs_two_in_each_mode():
    found = diversity_metrics(
        [answered(0, [("abcd", 1.0), ("efgh", 1.0)], [("abcd", 1.0), ("x", 0.0)])], (N, H), STOP
    )
    assert not [name for name in found if name.endswith("_correct")]
    assert found["eval/N/self_bleu4"] > 0.9


def test_votes_are_about_answers_or_are_not_held():
    """Two of three answers are right; where nobody knows what an answer is, there is no vote."""
    group = answered(0, [("a", 1.0), ("a", 1.0), ("b", 0.0), ("b", 0.0)], [])
    for rollout, form in zip(group.rollouts, ("1/2", "1/2", "3", None), strict=True):
        rollout.answer = form
    assert accuracy_metrics([group], (N,), votes=True)["eval/N/maj@4"] == 1.0
    without = accuracy_metrics([group], (N,), votes=False)
    assert not [name for name in without if "maj@" in name or "distinct_right@" in name]


# --- sampling settings ----------------------------------------------------------------------------------


def allowed(logits: torch.Tensor, top_p: float, top_k: int | None, temperature: float) -> dict[int, float]:
    """The distribution that top-k, then top-p leave, in plain Python."""
    p = (logits.double() / temperature).softmax(-1).tolist()
    ranked = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    total, kept, mass = sum(p[i] for i in ranked), [], 0.0
    for i in ranked:
        if mass >= top_p and kept:
            break
        kept.append(i)
        mass += p[i] / total
    return {i: p[i] / sum(p[j] for j in kept) for i in kept}


@pytest.mark.parametrize(
    ("top_p", "top_k", "temperature"), [(0.95, 20, 0.6), (0.5, None, 1.0), (1.0, 3, 1.0), (1e-9, None, 2.0)]
)
def test_truncated_draws_follow_the_distribution_that_is_left(top_p, top_k, temperature):
    """Frequencies of 20,000 draws within four standard errors; log-probabilities are renormalised."""
    logits = 2 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    expected = allowed(logits, top_p, top_k, temperature)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    tokens, logp = _draw(logits.expand(20_000, 40), uniform, temperature, top_p, top_k)
    found = torch.bincount(tokens, minlength=40) / 20_000
    for token in range(40):
        p = expected.get(token, 0.0)
        assert abs(float(found[token]) - p) <= 4 * (p * (1 - p) / 20_000) ** 0.5 + 1e-9
    for token, p in expected.items():
        at = tokens == token
        assert torch.allclose(logp[at].exp(), torch.tensor(p, dtype=torch.float32), rtol=1e-4)


def test_settings_that_leave_nothing_out_change_nothing():
    """The same numbers draw the same tokens as in training."""
    logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(1))
    uniform = torch.rand(500, generator=torch.Generator().manual_seed(0))
    plain, _ = _draw(logits, uniform, 1.0)
    assert torch.equal(_draw(logits, uniform, 1.0, top_p=1.0, top_k=40)[0], plain)
    assert torch.equal(_draw(logits, uniform, 1.0, top_p=1.0, top_k=400)[0], plain)


def test_temperature_zero_is_greedy(tiny_model: Path):
    policy = load_tiny_policy(tiny_model)
    requests = [SampleRequest((256, 84, 82), seed) for seed in (1, 2)]
    one, other = TransformersEngine(policy).generate(requests, max_tokens=8, temperature=0.0)
    nearly, _ = TransformersEngine(policy).generate(requests, max_tokens=8, temperature=1e-6)
    assert one.response_ids == other.response_ids == nearly.response_ids
    assert one.logprobs == [0.0] * len(one.response_ids)


def test_presets():
    paper = EvaluationSpec.model_validate({"preset": "paper", "interval": 5})
    assert (paper.temperature, paper.top_p, paper.top_k, paper.samples_per_item) == (0.6, 0.95, 20, 8)
    assert paper.interval == 5
    greedy = EvaluationSpec(preset="greedy")
    assert (greedy.temperature, greedy.samples_per_item) == (0.0, 1)
    for spec in (paper, greedy):
        assert EvaluationSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match=r"preset 'paper' sets temperature to 0\.6, but temperature is 1\.0"):
        EvaluationSpec(preset="paper", temperature=1.0)
    with pytest.raises(ValueError, match="'paper' or 'greedy'"):
        EvaluationSpec.model_validate({"preset": "papers"})


def test_several_greedy_samples_are_refused(tiny_model: Path, tmp_path: Path):
    data = write_rows(tmp_path / "data.jsonl")
    with pytest.raises(ValueError, match=r"evaluation\.samples_per_item is 4"):
        tiny_spec(tiny_model, data, evaluation=EvaluationSpec(temperature=0, samples_per_item=4))


# --- the whole evaluation -------------------------------------------------------------------------------


def run_evaluation(model: Path, spec: RunSpec, modes: tuple[Mode, ...] = (N, H)) -> dict[str, float]:
    policy = load_tiny_policy(model, double=False)
    assert spec.grader is not None and not isinstance(spec.algorithm, Taught)
    values, outcomes = evaluate(
        step_context(
            policy,
            build_algorithm(spec.algorithm),
            grader=build_grader(spec.grader),
            rollout=spec.rollout,
            seed=spec.seed,
        ),
        load_items(spec.training_data),
        modes,
        spec.evaluation,
    )
    assert set(outcomes) == {mode.label for mode in modes}
    for mode, one in outcomes.items():
        # What is told item by item is what the means were made of.
        shares = [c / n for c, n in zip(one.correct, one.graded, strict=True)]
        assert sum(shares) / len(shares) == pytest.approx(values[f"eval/{mode}/accuracy"])
        mean = sum(r or 0.0 for r in one.reward) / len(one.reward)
        assert mean == pytest.approx(values[f"eval/{mode}/reward"], abs=1e-5)
        assert values[f"eval/{mode}/graded"] == sum(one.graded) > 0
    return values


PER_MODE = (
    "reward graded accuracy length truncated entropy_nats entropy_bits repetition "
    "pass@1 pass@2 pass@4 pass@8 maj@1 "
    "maj@2 maj@4 maj@8 distinct_right@1 distinct_right@2 distinct_right@4 distinct_right@8 "
    "distinct1 distinct2 self_bleu4 distinct1_matched distinct2_matched self_bleu4_matched"
)
OF_BOTH = (
    "mix/pass@2 mix/pass@4 mix/pass@8 mix/pass@16 mix/distinct_right@2 mix/distinct_right@4 "
    "mix/distinct_right@8 mix/distinct_right@16 only_N only_H only_second_draw_N only_second_draw_H "
    "kl_H_N/prefix_N kl_H_N/prefix_H kl_N_H/prefix_N kl_N_H/prefix_H js/prefix_N js/prefix_H grader_errors"
)


def test_the_names_of_an_evaluation_are_complete(tiny_model: Path, tmp_path: Path):
    """With the paper's settings: every name of the metrics' list, and no number out of its range."""
    spec = tiny_spec(
        tiny_model,
        write_rows(tmp_path / "data.jsonl"),
        evaluation=EvaluationSpec(preset="paper"),
        # One that knows what an answer is: there are votes.
        grader=StringCheckGrader(input="{{sample.output_text}}", reference="{{item.letter}}"),
    )
    found = run_evaluation(tiny_model, spec)
    per_mode = {f"eval/{mode}/{name}" for mode in "NH" for name in PER_MODE.split()}
    expected = per_mode | {f"eval/{name}" for name in OF_BOTH.split()}
    optional = {f"eval/{mode}/{n}_correct" for mode in "NH" for n in ("distinct1", "distinct2", "self_bleu4")}
    assert expected <= found.keys() <= expected | optional
    shares = ("accuracy", "pass@", "maj@", "distinct1", "distinct2", "only_", "repetition", "self_bleu4")
    assert all(-1e-9 <= v <= 1 for n, v in found.items() if any(share in n for share in shares))
    assert found["eval/N/pass@1"] == pytest.approx(found["eval/N/accuracy"])
    one = run_evaluation(tiny_model, spec, (N,))
    assert one.keys() - optional == {n for n in expected if n.startswith("eval/N/")} | {"eval/grader_errors"}


def test_entropy_is_that_of_the_whole_vocabulary_however_it_was_sampled(tmp_path: Path):
    """Greedy answers, and the entropy and divergence of the untruncated distribution at temperature 1."""
    model = build_tiny_model(tmp_path / "model", spread=0.3)
    spec = tiny_spec(model, write_rows(tmp_path / "data.jsonl"), evaluation=EvaluationSpec(preset="greedy"))
    found = run_evaluation(model, spec)
    policy = load_tiny_policy(model, double=False)
    engine = TransformersEngine(policy)
    entropies, divergences = [], []
    for item in load_items(spec.training_data)[: spec.evaluation.max_items]:
        prompts = {mode: policy.prompt_ids(item.messages, mode) for mode in Mode}
        request = SampleRequest(tuple(prompts[N]), 0)
        (sample,) = engine.generate([request], max_tokens=spec.rollout.max_response_tokens, temperature=0.0)
        log_n, log_h = (log_p(policy, prompts[mode], sample.response_ids) for mode in Mode)
        entropies.append(-(log_n.exp() * log_n).sum(-1))
        divergences.append((log_n.exp() * (log_n - log_h)).sum(-1))
    assert found["eval/N/entropy_nats"] == pytest.approx(float(torch.cat(entropies).mean()), rel=1e-4)
    assert found["eval/N/entropy_bits"] == pytest.approx(found["eval/N/entropy_nats"] / math.log(2))
    assert found["eval/kl_N_H/prefix_N"] == pytest.approx(float(torch.cat(divergences).mean()), rel=1e-3)


def test_token_metrics_may_be_of_fewer_samples_and_nothing_else_is(tiny_model: Path, tmp_path: Path):
    data = write_rows(tmp_path / "data.jsonl")

    def found(**sampling: int) -> dict[str, float]:
        evaluation = EvaluationSpec.model_validate(sampling)
        return run_evaluation(tiny_model, tiny_spec(tiny_model, data, evaluation=evaluation))

    every, fewer = found(samples_per_item=3), found(samples_per_item=3, token_metric_samples=1)
    of_tokens = {name for name in every if "entropy" in name or "/prefix_" in name}
    assert every.keys() == fewer.keys()
    assert {name for name in every if every[name] != fewer[name]} == of_tokens
    # The first draw of the normal mode is the same one, however many follow.
    first = found(samples_per_item=1)["eval/N/entropy_nats"]
    assert fewer["eval/N/entropy_nats"] == pytest.approx(first, rel=1e-5)
    assert found(samples_per_item=3, token_metric_samples=7) == every


@torch.no_grad()
def log_p(policy: Policy, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Of every token of the vocabulary, where each token of the response is predicted."""
    logits = policy.model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1)
