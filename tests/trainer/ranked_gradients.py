"""Gradients of a batch by one rank or several: ``python -m … RANKS MODEL OUT``."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.fixtures.groups import H, N, load_tiny_policy, make_group, positions_of
from tests.fixtures.launched import as_ranks
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.distributed.ranks import ALONE, Ranks, join_ranks
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.spec.algorithm import AlgorithmSpec, ClipCov, EdgeGrpo, ForkingTokens, Grpo, KlCov, PolicySplit
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import update
from trainer.types import Group

REWARDS = [1.0, 0.0, 0.0, 1.0, 0.5, 0.0]
#: Where each group's rows are several micro-batches.
IN_PARTS = " in parts"
#: By name: the algorithm, and the rewards of each group. The last rank's share has a flat group alone.
CASES: dict[str, tuple[AlgorithmSpec, list[list[float]]]] = {
    "policy_split": (PolicySplit(eta=0.3), [REWARDS[i:] + REWARDS[:i] for i in range(5)]),
    "grpo": (Grpo(), [REWARDS[i:] + REWARDS[:i] for i in range(5)]),
    "kl_cov": (KlCov(share=0.1), [REWARDS, [1.0] * 6, REWARDS[::-1]]),
    "forking_tokens": (ForkingTokens(share=0.3), [REWARDS, REWARDS[::-1], [*REWARDS[1:], 0.2]]),
    "edge_grpo": (EdgeGrpo(), [REWARDS, REWARDS[::-1], [*REWARDS[2:], 0.2, 0.1]]),
    "a rank without gradient": (PolicySplit(eta=0.3), [REWARDS, [1.0] * 6]),
    "a rank without groups": (Grpo(), [REWARDS]),
    "policy_split in parts": (PolicySplit(eta=0.3, eta_normal=0.1), [REWARDS, [1.0] * 6, REWARDS[::-1]]),
    "grpo in parts": (Grpo(), [REWARDS, [1.0] * 6, REWARDS[::-1]]),
    "clip_cov in parts": (ClipCov(share=0.1, band_low=-9.0), [REWARDS]),
}


def groups_of(policy: Policy, name: str) -> list[Group]:
    spec, rewards = CASES[name]
    behavior = [N, N, N, H, H, H] if isinstance(spec, PolicySplit) else [N] * 6
    return [make_group(policy, one, behavior, index=i) for i, one in enumerate(rewards)]


def gradients(policy: Policy, name: str, ranks: Ranks = ALONE) -> dict[str, Tensor | float]:
    """Of two updates on one batch, with a plain gradient step between: in the second, ratios are not 1.

    Gradients by update and parameter, the loss, and the metrics.
    """
    found: dict[str, Tensor | float] = {}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            for parameter_name, parameter in policy.model.named_parameters():
                if parameter.grad is not None:
                    found[f"{step}/{parameter_name}"] = parameter.grad.clone()
                    parameter.data.sub_(parameter.grad, alpha=0.05)
                    parameter.grad = None
            return 0.0

    algorithm, groups = build_algorithm(CASES[name][0], 16), groups_of(policy, name)
    largest = positions_of(policy, groups, algorithm.scored_modes(0))
    result = update(
        step_context(policy, algorithm, ranks=ranks),
        Recorder(policy.model, OptimizerSpec()),
        groups,
        first_update=0,
        updates=2,
        tokens_per_micro_batch=largest // 4 if name.endswith(IN_PARTS) else largest,
    )
    entropies = {f"entropy/{index}": value for index, value in result.entropy_T.items()}
    return found | entropies | {"loss": result.loss} | result.metrics.result()


def main(model: str, out: str) -> None:
    """Write what this rank finds in each case to ``out``."""
    with join_ranks(on_lost=sys.exit) as ranks:
        found: dict[str, Any] = {name: gradients(load_tiny_policy(model), name, ranks) for name in CASES}
        made: list[int] = []
        has = ranks.on_first(lambda: made.append(ranks.rank) or "it", lambda: "a stand-in")
        found["on_first"] = {"has": has, "made": made}
        torch.save(found, Path(out) / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    as_ranks(main)
