"""The algorithms, by the ``type`` of their spec."""

from collections.abc import Callable
from typing import Any

from trainer.algorithms.base import Algorithm, GroupPlan, batch_counts, objective
from trainer.algorithms.grpo import GrpoAlgorithm
from trainer.algorithms.policy_split import PolicySplitAlgorithm
from trainer.spec import Grpo, PolicySplit

ALGORITHMS: dict[str, Callable[[Any], Algorithm]] = {
    "grpo": GrpoAlgorithm,
    "policy_split": PolicySplitAlgorithm,
}


def build_algorithm(spec: Grpo | PolicySplit) -> Algorithm:
    """The algorithm that ``spec`` describes."""
    return ALGORITHMS[spec.type](spec)


__all__ = ["ALGORITHMS", "Algorithm", "GroupPlan", "batch_counts", "build_algorithm", "objective"]
