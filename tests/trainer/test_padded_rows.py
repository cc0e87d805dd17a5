"""Rows that are padded, of models with windows: at most half of what is computed is padding.

One long response beside many short ones: what training, evaluations and probes compute, counted position by
position, against the tokens there are; and that it comes to what it was, when all rows of a micro-batch were
padded to the longest.
"""

from collections.abc import Callable

import pytest
import torch

from tests.fixtures.architectures import build_architecture
from tests.fixtures.groups import H, N, computed, load_tiny_policy, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.diagnostics.gradients import gradient_metrics
from trainer.diagnostics.hidden_states import hidden_state_metrics
from trainer.distributed.ranks import ALONE
from trainer.model import rows as rows_of_models
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.rows import ONE_RECTANGLE, Row
from trainer.model.scoring import divided, group_rows, prompts_of, score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.progress import Progress
from trainer.steps.teaching import Example, SupervisedTeaching, teach
from trainer.steps.update import update
from trainer.types import Group

UNEVEN = [400, *[20] * 39]
ALL_IN_ONE = 10**9

Gradients = dict[str, torch.Tensor]
Measured = dict[str, float]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """With a window in each layer; in float64."""
    folder = build_architecture(tmp_path_factory.mktemp("model"), "mistral-untied-windows")
    policy = load_tiny_policy(folder, prompt="Wander.")
    assert policy.layout == "per_row"
    return policy


def a_group(policy: Policy, index: int = 0) -> Group:
    modes = [N, H] * (len(UNEVEN) // 2)
    return make_group(policy, [1.0, 0.0, 0.5, 0.0] * 10, modes, index=index, lengths=UNEVEN)


def tokens_of(group: Group, modes: tuple[Mode, ...] = tuple(Mode)) -> int:
    return sum(len(row.context_ids) + len(row.response_ids) for row in group_rows(group, modes))


class Recorder(MasterAdamW):
    """Keeps the gradients of its step and changes no weight."""

    def __init__(self, policy: Policy):
        super().__init__(policy.model, OptimizerSpec())
        self.found: Gradients = {}

    def step(self, step: int) -> float:
        for name, master in self.masters().items():
            if master.grad is not None:
                self.found[name] = master.grad.clone()
                master.grad = None
        return 0.0


def one_pass(policy: Policy) -> tuple[Gradients, Measured, int]:
    """GRPO: gradients, metrics, and the passes over all rows."""
    optimizer = Recorder(policy)
    context = step_context(policy, build_algorithm(Grpo()))
    result = update(context, optimizer, [a_group(policy)], first_update=0, tokens_per_micro_batch=ALL_IN_ONE)
    return optimizer.found, result.metrics.result() | {"loss": result.loss}, 1


def both_modes(policy: Policy) -> tuple[Gradients, Measured, int]:
    """Policy Split: where a group is divided, a pass without gradient comes first."""
    optimizer = Recorder(policy)
    context = step_context(policy, build_algorithm(PolicySplit(eta=0.5)))
    result = update(context, optimizer, [a_group(policy)], first_update=0, tokens_per_micro_batch=ALL_IN_ONE)
    return optimizer.found, result.metrics.result() | {"loss": result.loss}, 2


def taught(policy: Policy) -> tuple[Gradients, Measured, int]:
    optimizer = Recorder(policy)
    rows = group_rows(a_group(policy), (N,))
    result = teach(
        policy,
        SupervisedTeaching(),
        [Example(number, {N: [Row(row.context_ids, row.response_ids)]}) for number, row in enumerate(rows)],
        optimizer,
        update=0,
        ranks=ALONE,
        progress=Progress(lambda event: None),
        tokens_per_micro_batch=ALL_IN_ONE,
    )
    return optimizer.found, result.metrics.result() | {"loss": result.loss}, 1


def scored(policy: Policy) -> tuple[Gradients, Measured, int]:
    """As an evaluation and the trial rollout score: the mean entropy of each mode."""
    group, sums = a_group(policy), MetricSums()
    with torch.no_grad():
        for (part,) in divided([(group, prompts_of(group, tuple(Mode)))], policy.layout, ALL_IN_ONE):
            (scores,) = score_groups(policy, [part], tuple(Mode))
            for mode, of_mode in scores.items():
                sums.add_mean(mode.label, of_mode.entropy_T)
    return {}, sums.result(), 1


def hidden_states_probed(policy: Policy) -> tuple[Gradients, Measured, int]:
    """Three prompts: of each mode, and the control."""
    return {}, hidden_state_metrics(policy, [a_group(policy)], ALL_IN_ONE), 2


def gradients_probed(policy: Policy) -> tuple[Gradients, Measured, int]:
    """Scored, then differentiated part by part."""
    draw = torch.Generator().manual_seed(3)
    algorithm = build_algorithm(PolicySplit(eta=0.5))
    found = gradient_metrics(
        policy,
        algorithm,
        [a_group(policy)],
        step=0,
        temperature=1.0,
        generator=draw,
        positions=ALL_IN_ONE,
    )
    return {}, found, 2


USES = [one_pass, both_modes, taught, scored, hidden_states_probed, gradients_probed]


@pytest.mark.parametrize("use", USES)
def test_at_most_half_is_padding_and_it_comes_to_the_same(
    policy: Policy,
    use: Callable[[Policy], tuple[Gradients, Measured, int]],
    monkeypatch: pytest.MonkeyPatch,
):
    modes = (N,) if use in (one_pass, taught) else tuple(Mode)
    with computed(policy) as sizes:
        gradients, measured, passes = use(policy)
    tokens = tokens_of(a_group(policy), modes)
    assert tokens <= sum(sizes) <= passes * (2 * tokens + ONE_RECTANGLE)
    monkeypatch.setattr(rows_of_models, "ONE_RECTANGLE", ALL_IN_ONE)
    with computed(policy) as padded:
        expected, told, _ = use(policy)
    if use is not taught:  # whose micro-batches are small, whatever a run says
        assert sum(padded) > 2 * sum(sizes)
    assert measured == pytest.approx(told, rel=1e-5, abs=1e-8)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert float((gradients[name] - gradient).abs().max()) <= 1e-6 * scale + 1e-10, name
