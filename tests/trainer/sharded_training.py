"""Steps by one rank or several, each with its part of the weights: ``python -m … RANKS MODELS OUT``.

A world is started once: what it finds, of training and of saving, is written to a file a rank.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tests.fixtures.groups import H, N, make_group, positions_of
from tests.fixtures.launched import as_ranks
from tests.fixtures.steps import step_context
from tests.trainer import sharded_saving as saving
from tests.trainer.sampling_beside import run_on, spec_of
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import Algorithm
from trainer.data.items import Item
from trainer.distributed.ranks import ALONE, Ranks, join_ranks
from trainer.distributed.sharding import own_bytes, put_together
from trainer.graders.custom import function_grader
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy, load_policy, shard
from trainer.rollout.sharded_engine import ShardedEngine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.algorithm import AlgorithmSpec, Dapo, Grpo, KlCov, PolicySplit, ReferenceKl
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.run import OptimizerSpec, RolloutSpec
from trainer.steps.context import StepContext
from trainer.steps.generation import build_group, grade_groups, sample_groups
from trainer.steps.resampling import collect_groups
from trainer.steps.update import update
from trainer.types import Group

REWARDS = [1.0, 0.0, 0.0, 1.0, 0.5, 0.0]
FLAT = [1.0] * 6
#: Of four ranks two have no row.
TWO = [REWARDS, REWARDS[::-1]]
#: One of them teaches nothing: its rank has no gradient, or a pass without one.
THREE = [REWARDS, FLAT, REWARDS[::-1]]
#: Very unequal ones, some empty.
RAGGED = [40, 1, 7, 0, 23, 3]
#: A short one: what is computed is cheap.
PROMPT = "Explore."


@dataclass(frozen=True)
class Case:
    """What is trained on, and how."""

    algorithm: AlgorithmSpec
    rewards: list[list[float]] = field(default_factory=lambda: TWO)
    steps: int = 2
    """The first has two updates: in the second ratios are not 1."""
    parts: int = 1
    """Into how many micro-batches the largest group goes, about."""
    model: dict[str, Any] = field(default_factory=dict)
    lora: bool = False
    moments: Literal["float32", "int8"] = "float32"

    @property
    def sampled(self) -> bool:
        """Whether ranks sample and grade their groups, and sample others in place of flat ones."""
        return isinstance(self.algorithm, Dapo)


SPLIT = PolicySplit(eta=0.3, eta_normal=0.1)
LEAVING = Grpo(reference_kl=ReferenceKl(coefficient=0.1))
ALGORITHMS = {"policy_split": SPLIT, "grpo": Grpo(), "kl_cov": KlCov(share=0.1), "dapo": Dapo()}
#: What every world trains, for five steps.
EVERYWHERE = {
    f"{name}{', lora' * lora}": Case(algorithm, steps=5, lora=lora)
    for name, algorithm in ALGORITHMS.items()
    for lora in (False, True)
}
CASES = {
    **EVERYWHERE,
    "policy_split in parts": Case(SPLIT, THREE, parts=3),
    "a rank without a row": Case(Grpo(), [REWARDS]),
    "policy_split, computed again": Case(SPLIT, model={"gradient_checkpointing": True}),
    "grpo, lora, in parts": Case(Grpo(), THREE, parts=2, lora=True),
    "grpo, reference": Case(LEAVING, [REWARDS, FLAT]),
    "grpo, moments of eight bits": Case(Grpo(), steps=5, moments="int8"),
    "grpo, lora, moments of eight bits": Case(Grpo(), steps=5, lora=True, moments="int8"),
    "grpo, reference, lora": Case(LEAVING, [REWARDS, FLAT], lora=True),
}
#: Two ranks train all cases.
FOUR = [*EVERYWHERE, "policy_split in parts", "grpo, lora, in parts", "grpo, moments of eight bits"]


def policy_of(model: str, case: Case, ranks: Ranks, dtype: torch.dtype = torch.float64) -> Policy:
    """The model as a policy, in ``dtype``, sharded where there are several ranks."""
    spec = ModelSpec(path=model, dtype="float32", **case.model)
    lora = LoraSpec(rank=4) if case.lora else None
    policy = load_policy(spec, PROMPT, lora=lora, to_shard=ranks.world > 1)
    policy.model = policy.model.to(dtype)
    if case.lora:  # B is zero to begin with: A would have no gradient
        torch.manual_seed(1)
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.data = torch.randn_like(parameter) / 10
    if ranks.world > 1:
        shard(policy)
    return policy


def reference_of(model: str, case: Case, policy: Policy) -> Policy | None:
    """What the policy began as, where the case has a penalty on leaving it."""
    if build_algorithm(case.algorithm, 64).objective.reference_kl is None:
        return None
    if policy.adapted:
        return policy
    reference = load_policy(
        ModelSpec(path=model, dtype="float32"), PROMPT, to_shard=policy.sharding is not None
    )
    reference.model = reference.model.double().requires_grad_(False)
    if policy.sharding is not None:
        shard(reference)
    return reference


def groups_of(context: StepContext, case: Case) -> list[Group]:
    """Those of a step: given, or what the policy samples."""
    if case.sampled:
        return sampled_groups(context)
    behavior = [N, N, N, H, H, H] if isinstance(case.algorithm, PolicySplit) else [N] * 6
    return [
        make_group(context.policy, one, behavior, index=i, lengths=RAGGED, seed=context.step)
        for i, one in enumerate(case.rewards)
    ]


def reward(item: dict[str, object], text: str) -> float:
    """The same for all of every other item's responses: its group is sampled in vain."""
    return float(sum(map(ord, text)) % 2) if item["varies"] else 1.0


def sampled_groups(context: StepContext) -> list[Group]:
    """Two that teach, where further items took the place of those that do not."""

    def sample(first: int, count: int) -> list[Group]:
        messages = [[{"role": "user", "content": f"{index} ="}] for index in range(first, first + count)]
        items = [Item(one, {"varies": i % 2}, index=i) for i, one in enumerate(messages, first)]
        groups = [build_group(context.policy, one, one.index, one.index, None) for one in items]
        sample_groups(context, groups, context.samples, "sample")
        grade_groups(context, groups)
        return groups

    found = collect_groups(sample, context.algorithm.keeps, wanted=2, resampling_rounds=9)
    assert len(found.kept) == 2 and found.dropped and found.rounds > 1
    return found.kept


def trained(model: str, case: Case, ranks: Ranks = ALONE) -> dict[str, Tensor | float]:
    """The gradients of the first step, loss and norm of each, the weights after the last, whole."""
    found: dict[str, Tensor | float] = {}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            if step < 2:
                for name, master in self.masters().items():
                    if master.grad is not None:
                        found[f"gradient {step}/{name}"] = put_together(master.grad).clone()
            return super().step(step)

    policy = policy_of(model, case, ranks)
    algorithm = build_algorithm(case.algorithm, 64)
    # A large epsilon: the rounding of gradients that are all but zero would move the weights as others do.
    settings = OptimizerSpec(learning_rate=1e-2, max_grad_norm=0.5, epsilon=1e-4, moments=case.moments)
    optimizer = Recorder(policy.model, settings)
    reference = reference_of(model, case, policy)
    for step in range(case.steps):
        context = context_of(policy, algorithm, ranks, step=step, reference=reference)
        groups = groups_of(context, case)
        largest = positions_of(policy, groups, algorithm.scored_modes(0))
        result = update(
            context,
            optimizer,
            groups,
            first_update=0 if step == 0 else step + 1,
            updates=2 if step == 0 else 1,
            tokens_per_micro_batch=largest // case.parts,
            divergence_stride=2,
        )
        found |= {f"loss {step}": result.loss, f"norm {step}": result.grad_norm}
        if step == 0:
            found |= {f"entropy/{index}": value for index, value in result.entropy_T.items()}
            found |= result.metrics.result()
    return found | {f"weights/{name}": one for name, one in optimizer.whole_masters()}


def context_of(policy: Policy, algorithm: Algorithm, ranks: Ranks, **changes: Any) -> StepContext:
    """Ranks sample together."""
    own = TransformersEngine(policy)
    return step_context(
        policy,
        algorithm,
        ranks=ranks,
        engine=own if ranks.world == 1 else ShardedEngine(own, ranks),
        grader=function_grader(reward),
        rollout=RolloutSpec(samples_per_prompt=4, max_response_tokens=4),
        **changes,
    )


def bytes_of(model: str, ranks: Ranks = ALONE) -> dict[str, int]:
    """What a rank holds after a step: of weights, gradients, moments; and of all of it, whole."""
    case = Case(SPLIT, THREE)
    kept: dict[str, int] = {}

    class Weighing(MasterAdamW):
        def step(self, step: int) -> float:
            masters = list(self.masters().values())
            kept["gradients"] = own_bytes(one.grad for one in masters if one.grad is not None)
            norm = super().step(step)
            kept["weights"] = own_bytes(policy.model.parameters())
            kept["moments"] = own_bytes(
                value for name, value in self.state_tensors().items() if name.startswith("exp_avg")
            )
            return norm

    policy = policy_of(model, case, ranks, torch.float32)
    context = context_of(policy, build_algorithm(case.algorithm, 64), ranks)
    update(context, Weighing(policy.model, OptimizerSpec()), groups_of(context, case), first_update=0)
    return kept


def main(models: str, out: str) -> None:
    """Write what this rank finds to ``out``: two ranks train every case, four some, three only go on."""
    folder, model = Path(out), str(Path(models) / "tiny")
    with join_ranks(on_lost=sys.exit) as ranks:
        names = {2: [*CASES], 3: [], 4: FOUR}[ranks.world]
        found: dict[str, Any] = {name: trained(model, CASES[name], ranks) for name in names}
        found["bytes"] = bytes_of(model, ranks)
        found["went on"] = {kept: saving.go_on(model, folder / kept, kept, ranks) for kept in saving.KEPT}
        if ranks.world == 2:
            found["states"] = saving.states(model, folder / "states", ranks)
            saving.checkpoints(Path(models), folder / "checkpoints", ranks)
            run_on(ranks, spec_of(Path(model), folder, 1), folder / "ahead")
        torch.save(found, folder / f"{ranks.world}-{ranks.rank}.pt")


if __name__ == "__main__":
    as_ranks(main)
