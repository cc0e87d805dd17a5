"""How often an update waits for the device: once for its losses and metrics, however many groups it has.

Counted on a device that is not the CPU (``tests.fixtures.far_device``), where a copy that is waited for, a
number that is read and a selection by a mask are seen one by one, and a tensor of the CPU among the device's
is an error, as on CUDA. What is computed there is what the CPU computes, but for the order of sums in the
model. What the model itself waits for (``trainer/model``: its inputs) goes by micro-batches, and is left out.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.fixtures.far_device import FarDevice
from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.objective.transfer import Pending, chosen
from trainer.spec.algorithm import AlgorithmSpec, EdgeGrpo, EntropyAdvantage, Gspo, PolicySplit
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import UpdateResult, update

SPECS: dict[str, AlgorithmSpec] = {
    "policy_split": PolicySplit(eta=0.5, cross_importance="truncated"),
    "entropy_advantage": EntropyAdvantage(rollout_importance_cap=2.0),
    "gspo": Gspo(),
    "edge_grpo": EdgeGrpo(),
}


#: EDGE-GRPO also asks for the batch's mean entropy before it trains.
FETCHES = {"policy_split": 1, "entropy_advantage": 1, "gspo": 1, "edge_grpo": 2}


class Unmoved(MasterAdamW):
    """Takes gradients and changes no weight: what the optimizer itself waits for is not counted here."""

    def step(self, step: int) -> float:
        for parameter in self.masters().values():
            parameter.grad = None
        return 0.0


def updated(policy: Policy, spec: AlgorithmSpec, number: int) -> UpdateResult:
    """One micro-batch of ``number`` groups, whose inputs are copied once."""
    behavior = [N, H, N, H] if isinstance(spec, PolicySplit) else [N] * 4
    groups = [make_group(policy, [1.0, 0.0, 0.5, None], behavior, index=i) for i in range(number)]
    context = step_context(policy, build_algorithm(spec, 40))
    return update(context, Unmoved(policy.model, OptimizerSpec()), groups, first_update=0)


@pytest.mark.parametrize("name", SPECS)
def test_an_update_waits_as_often_for_many_groups_as_for_one(tiny_model: Path, name: str):
    near, far = (load_tiny_policy(tiny_model, double=False) for _ in range(2))
    for number in (1, 6):
        with FarDevice() as device:
            device.take(far.model)
            result = updated(far, SPECS[name], number)
        waits = Counter({at: n for at, n in device.places.items() if " at model/" not in at})
        assert waits.total() == FETCHES[name], waits
        expected = updated(near, SPECS[name], number)
        assert result.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
        assert result.metrics.result() == pytest.approx(expected.metrics.result(), rel=1e-4, abs=1e-5)
        for index, entropy_T in expected.entropy_T.items():
            assert torch.allclose(result.entropy_T[index], entropy_T, rtol=1e-5)


def test_what_is_pending_comes_in_its_order_by_one_copy():
    with FarDevice() as device:
        pending, seen = Pending(), []
        for number in range(5):
            far = torch.full((number,), float(number), device="meta")
            pending.later(far, lambda values: seen.append(values.tolist()))
            pending.later(far.sum(), lambda values: seen.append(values.tolist()))
            pending.later(torch.tensor([0.5]), lambda values: seen.append(values.tolist()))
        assert not seen
        pending.fetch()
        pending.fetch()
    assert seen == [of for n in range(5) for of in ([float(n)] * n, [float(n * n)], [0.5])]
    assert device.waits.total() == 1


def test_the_far_device_counts_what_waits_and_refuses_the_cpu_s_tensors():
    with FarDevice() as device:
        far = torch.arange(4.0, device="meta")
        for waiting in (
            lambda: float(far.sum()),
            lambda: bool(far.any()),
            lambda: far.cpu(),
            lambda: far[far > 1],
            lambda: torch.arange(4).to("meta"),
        ):
            before = device.waits.total()
            waiting()
            assert device.waits.total() > before
        before = device.waits.total()
        assert (
            float((far * 2)[chosen(torch.tensor([True, False, True, True]), far.device)].cpu().sum()) == 10.0
        )
        assert device.waits.total() == before + 1
        with pytest.raises(RuntimeError, match="a tensor of the CPU"):
            far.add(torch.arange(4.0))
