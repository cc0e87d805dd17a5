"""A three-token tree of depth two, with a real model on it: every response can be enumerated.

The vocabulary is {0, 1, end}, a response is ``end`` or two tokens long: seven responses, of two lengths, some
cut off. The reference below computes the expected gradient of the Policy Split loss over all groups of two
normal and two high-entropy responses in NumPy, from the equations; the trainer's own engine, scoring, plan
and loss are compared with it, exactly over all groups and within four standard errors by sampling.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.fixtures.groups import H, N, bare_group, plain_scores, positions_of
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.algorithm import PolicySplit
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.steps.update import update
from trainer.types import Group

END, DEPTH = 2, 2
RESPONSES = [(2,), (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
REWARD = [0.5, 0.0, 1.0, 0.0, 0.5, 0.0, 1.0]
PROMPT = {N: (0,), H: (0, 1)}
BEHAVIOR = [N, N, H, H]
ETA, ALPHA, KAPPA = 0.3, 0.4, 2.0
PER_GROUP = PolicySplit(eta=ETA, alpha=ALPHA, kappa=KAPPA)
PER_ROW = PER_GROUP.model_copy(update={"aggregation": "sequence_sum"})
GROUPS = 2000
ROUNDING = 1e-6
"""Llama's norms compute in float32 whatever the weights are in."""
Drawn = tuple[int, ...]
"""A group by its responses' numbers: two of normal mode, then two of high-entropy mode."""


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=3,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=True,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
    )
    tokenizer = SimpleNamespace(eos_token_id=END, pad_token_id=END)  # the tree has no text
    return Policy(LlamaForCausalLM(config).double().eval(), tokenizer, "", "shared_prefix")


@pytest.fixture(scope="module")
def table(policy: Policy) -> dict[Mode, Tensor]:
    """log pi of each response's tokens under each mode's prompt, by the trainer's scoring; (7, 2), 0 behind.

    Carries gradients to the model's weights.
    """
    group = tree_group(range(len(RESPONSES)), [N] * len(RESPONSES))
    (scores,) = score_groups(policy, [group], tuple(Mode))
    return {mode: padded(scores[mode].logp_T) for mode in Mode}


def padded(logp_T: Tensor) -> Tensor:
    rows = logp_T.split([len(ids) for ids in RESPONSES])
    return torch.stack([torch.cat([row, row.new_zeros(DEPTH - len(row))]) for row in rows])


def tree_group(numbers, behavior: list[Mode], index: int = 0) -> Group:
    numbers = list(numbers)
    cut = [RESPONSES[n][-1] != END for n in numbers]
    rewards = [REWARD[n] for n in numbers]
    group = bare_group([RESPONSES[n] for n in numbers], rewards, behavior, index=index, truncated=cut)
    group.prompt_ids = {mode: list(ids) for mode, ids in PROMPT.items()}
    return group


# --- the reference: NumPy, from the equations --------------------------------------------------------------


def coefficients(drawn: Drawn, logp: dict[Mode, np.ndarray], spec: PolicySplit) -> np.ndarray:
    """d(group loss) / d(log pi_M(token t of response n)); (2, 7, 2). Responses drawn twice add up."""
    result = np.zeros((2, len(RESPONSES), DEPTH))
    reward = np.array([REWARD[n] for n in drawn])
    if np.ptp(reward) == 0:
        return result
    advantage = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6)
    tokens = [(i, n, t) for i, n in enumerate(drawn) for t in range(len(RESPONSES[n]))]
    b = np.array([-ALPHA * logp[H][n, t] - (1 - ALPHA) * logp[N][n, t] for _, n, t in tokens])
    z = np.zeros_like(b) if np.ptp(b) == 0 else (b - b.mean()) / (b.std(ddof=1) + 1e-6)
    rows = len(drawn) if spec.aggregation == "sequence_sum" else len(tokens)
    for (i, n, t), z_t in zip(tokens, z, strict=True):
        bound = abs(advantage[i]) / KAPPA
        shaped = {N: advantage[i], H: advantage[i] + min(max(ETA * z_t, -bound), bound)}
        for number, mode in enumerate((N, H)):
            result[number, n, t] -= 0.5 * shaped[mode] / rows
    return result


def all_groups(logp: dict[Mode, np.ndarray]) -> Iterator[tuple[Drawn, float]]:
    """Every group up to order within a mode, with its probability."""
    p = {mode: np.exp(table.sum(axis=1)) for mode, table in logp.items()}
    pairs = list(itertools.combinations_with_replacement(range(len(RESPONSES)), 2))

    def probability(pair: tuple[int, int], mode: Mode) -> float:
        return float(p[mode][pair[0]] * p[mode][pair[1]]) * (1 if pair[0] == pair[1] else 2)

    for normal, high in itertools.product(pairs, pairs):
        yield normal + high, probability(normal, N) * probability(high, H)


@pytest.fixture(scope="module")
def logp(table: dict[Mode, Tensor]) -> dict[Mode, np.ndarray]:
    return {mode: values.detach().numpy() for mode, values in table.items()}


@pytest.fixture(scope="module")
def sampled(policy: Policy) -> Counter[Drawn]:
    """Groups that the trainer's own engine samples from both modes."""
    requests = [
        SampleRequest(PROMPT[mode], seed=4 * number + place)
        for number in range(GROUPS)
        for place, mode in enumerate(BEHAVIOR)
    ]
    samples = TransformersEngine(policy, max_batch=1000).generate(requests, max_tokens=DEPTH, temperature=1.0)
    found = [RESPONSES.index(tuple(sample.response_ids)) for sample in samples]
    assert all(s.truncated == (s.response_ids[-1] != END) for s in samples)
    return Counter(
        (*sorted(found[i : i + 2]), *sorted(found[i + 2 : i + 4])) for i in range(0, len(found), 4)
    )


def trainer_gradient(drawn: Drawn, logp: dict[Mode, np.ndarray], spec: PolicySplit) -> np.ndarray:
    """The same as ``coefficients``, by the trainer's plan and loss."""
    algorithm = build_algorithm(spec)
    plan = algorithm.plan(tree_group(drawn, BEHAVIOR))
    tables = {mode: torch.tensor(values, requires_grad=True) for mode, values in logp.items()}
    scores = {
        mode: plain_scores(torch.cat([values[n, : len(RESPONSES[n])] for n in drawn]))
        for mode, values in tables.items()
    }
    old = {mode: of_mode.logp_T.detach() for mode, of_mode in scores.items()}
    loss = group_loss(algorithm, plan, scores, Old(old), batch_counts([plan], tuple(Mode)), 0, MetricSums())
    found = torch.autograd.grad(loss, (tables[N], tables[H]))
    return torch.stack(found).numpy()


def test_the_responses_are_all_there_are(logp: dict[Mode, np.ndarray]):
    for mode in Mode:
        assert math.isclose(np.exp(logp[mode].sum(axis=1)).sum(), 1.0, rel_tol=ROUNDING)
    assert math.isclose(sum(p for _, p in all_groups(logp)), 1.0, rel_tol=4 * ROUNDING)
    assert np.abs(logp[N] - logp[H]).max() > 0.1  # two modes, not one


def test_the_loss_of_every_group_has_the_gradient_of_the_equations(logp: dict[Mode, np.ndarray]):
    expected = np.zeros((2, len(RESPONSES), DEPTH))
    found = np.zeros_like(expected)
    for drawn, probability in all_groups(logp):
        reference = coefficients(drawn, logp, PER_GROUP)
        gradient = trainer_gradient(drawn, logp, PER_GROUP)
        assert np.allclose(gradient, reference, rtol=0, atol=1e-13), drawn
        expected += probability * reference
        found += probability * gradient
    assert np.abs(expected).max() > 1e-2
    assert np.allclose(found, expected, rtol=0, atol=1e-14)


def test_the_engine_samples_the_tree(logp: dict[Mode, np.ndarray], sampled: Counter[Drawn]):
    """Frequencies of the seven responses in each mode, within four standard errors."""
    for mode, places in ((N, slice(0, 2)), (H, slice(2, 4))):
        p = np.exp(logp[mode].sum(axis=1))
        found = np.zeros(len(RESPONSES))
        for drawn, times in sampled.items():
            for n in drawn[places]:
                found[n] += times / (2 * GROUPS)
        assert (np.abs(found - p) <= 4 * np.sqrt(p * (1 - p) / (2 * GROUPS))).all()


def test_the_sampled_gradient_is_within_four_standard_errors(
    table: dict[Mode, Tensor], logp: dict[Mode, np.ndarray], sampled: Counter[Drawn]
):
    """Engine, plan and loss together: their mean over groups estimates the enumerated gradient."""
    expected = sum(p * coefficients(drawn, logp, PER_GROUP) for drawn, p in all_groups(logp))
    gradients = np.stack([trainer_gradient(drawn, logp, PER_GROUP) for drawn in sampled])
    times = np.array(list(sampled.values()))[:, None, None, None] / GROUPS
    mean = (times * gradients).sum(axis=0)
    error = np.sqrt((times * (gradients - mean) ** 2).sum(axis=0) / (GROUPS - 1))
    assert (np.abs(mean - expected) <= 4 * error + 1e-12).all()
    # Not for want of precision: an estimate without the bonus, or without sharing, is told from it.
    for other in ({"eta": 0.0}, {"sharing": "none_pooled"}):
        spec = PER_GROUP.model_copy(update=other)
        wrong = np.stack([trainer_gradient(drawn, logp, spec) for drawn in sampled])
        assert (np.abs((times * wrong).sum(axis=0) - expected) > 4 * error).any()


def test_an_update_of_sampled_groups_moves_the_weights_by_the_reference(
    policy: Policy, table: dict[Mode, Tensor], logp: dict[Mode, np.ndarray], sampled: Counter[Drawn]
):
    """The whole path to the weights: the update's gradient is the reference pulled back through the model."""
    drawn = list(sampled)[:24]
    expected_table = sum(coefficients(d, logp, PER_ROW) for d in drawn) / len(drawn)
    names, parameters = zip(*policy.model.named_parameters(), strict=True)
    outputs = torch.stack([table[N], table[H]])
    expected = torch.autograd.grad(
        outputs, parameters, torch.as_tensor(expected_table), retain_graph=True, allow_unused=True
    )
    found: dict[str, Tensor] = {}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            found.update(
                {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
            )
            return 0.0

    policy.model.zero_grad()
    groups = [tree_group(d, BEHAVIOR, index) for index, d in enumerate(drawn)]
    update(
        step_context(policy, build_algorithm(PER_ROW, DEPTH)),
        Recorder(policy.model, OptimizerSpec()),
        groups,
        first_update=0,
        tokens_per_micro_batch=5 * positions_of(policy, groups),
    )
    policy.model.zero_grad()
    assert float(found["model.embed_tokens.weight"].abs().max()) > 1e-3
    for name, gradient in zip(names, expected, strict=True):
        assert gradient is not None
        assert torch.allclose(found[name], gradient, rtol=ROUNDING, atol=ROUNDING), name
