"""How often an update, an evaluation or a probe waits for the device: once, however many groups it has.

Counted on a device that is not the CPU (``tests.fixtures.far_device``), where a copy that is waited for, a
number that is read and a selection by a mask are seen one by one, and a tensor of the CPU among the device's
is an error, as on CUDA. What is computed there is what the CPU computes, but for the order of sums in the
model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.fixtures.far_device import FarDevice
from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.runs import write_rows
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.data.items import load_items
from trainer.diagnostics.gradients import gradient_metrics
from trainer.diagnostics.hidden_states import hidden_state_metrics
from trainer.evaluation.evaluate import evaluate
from trainer.graders.response_format import ResponseFormat
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import Pending, chosen
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.spec.algorithm import AlgorithmSpec, EdgeGrpo, EntropyAdvantage, Gspo, PolicySplit
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import UpdateResult, update
from trainer.types import Group

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
    """One micro-batch of ``number`` groups."""
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
        assert device.waits.total() == FETCHES[name], device.places
        expected = updated(near, SPECS[name], number)
        assert result.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
        assert result.metrics.result() == pytest.approx(expected.metrics.result(), rel=1e-4, abs=1e-5)
        for index, entropy_T in expected.entropy_T.items():
            assert torch.allclose(result.entropy_T[index], entropy_T, rtol=1e-5)


class Thinks(RolloutEngine):
    """Says thoughts and an answer, or thoughts without an end."""

    def __init__(self, policy: Policy):
        self._tokenizer = policy.tokenizer

    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        form: ResponseFormat | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        said = [
            self._tokenizer.encode("<think>" + ("hm</think>yes", "no")[request.seed % 2])
            for request in requests
        ]
        return [Sample(ids, [-1.0] * len(ids), False) for ids in said]


def evaluated(policy: Policy, data: Path, number: int) -> dict[str, float]:
    """An evaluation of ``number`` items by responses that have thoughts."""
    context = step_context(policy, build_algorithm(PolicySplit()), engine=Thinks(policy))
    items = load_items(JsonlData(path=str(data)))
    spec = EvaluationSpec(max_items=number, samples_per_item=4)
    return evaluate(context, items, tuple(Mode), spec)[0]


def groups_of(policy: Policy, number: int) -> list[Group]:
    return [make_group(policy, [1.0, 0.0, 0.5, 0.25], [N, H, N, H], index=i) for i in range(number)]


def gradients_probed(
    policy: Policy, data: Path, number: int, positions: int | None = None
) -> dict[str, float]:
    return gradient_metrics(
        policy,
        build_algorithm(PolicySplit(eta=0.5)),
        groups_of(policy, number),
        step=0,
        temperature=1.0,
        generator=torch.Generator().manual_seed(3),
        positions=positions,
    )


def gradients_probed_in_parts(policy: Policy, data: Path, number: int) -> dict[str, float]:
    return gradients_probed(policy, data, number, positions=1)


def hidden_states_probed(policy: Policy, data: Path, number: int) -> dict[str, float]:
    return hidden_state_metrics(policy, groups_of(policy, number))


MEASURES = [evaluated, gradients_probed, gradients_probed_in_parts, hidden_states_probed]


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_measured_waits_as_often_for_many_groups_as_for_one(
    tiny_model: Path, tmp_path: Path, measure: Callable[[Policy, Path, int], dict[str, float]]
):
    """Evaluations, of responses with thoughts too, and probes; their numbers are those of the CPU."""
    data = write_rows(tmp_path / "rows.jsonl")
    near, far = (load_tiny_policy(tiny_model, double=False) for _ in range(2))
    for number in (1, 5):
        with FarDevice() as device:
            device.take(far.model)
            found = measure(far, data, number)
        assert device.waits.total() == 1, device.places
        assert found == pytest.approx(measure(near, data, number), rel=1e-3, abs=1e-5, nan_ok=True)
        if measure is evaluated:
            assert {"eval/N/reasoning_entropy_nats", "eval/kl_H_N/prefix_H"} <= found.keys()


def test_means_of_names_that_are_known_together_or_not_at_all():
    sums = MetricSums()
    nan = float("nan")
    sums.add_known_means({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([nan])})
    sums.add_known_means({"a": torch.tensor([4.0, 5.0, 6.0]), "b": torch.tensor([8.0]), "c": torch.zeros(0)})
    sums.add_mean("a", torch.tensor([1.0]))
    assert sums.result() == {"a": 4.0, "b": 8.0}


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
