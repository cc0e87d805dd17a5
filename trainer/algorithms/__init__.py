"""The algorithms, by the ``type`` of their spec."""

from trainer.algorithm_spec import AlgorithmSpec
from trainer.algorithms.base import Algorithm
from trainer.algorithms.grpo import GrpoAlgorithm
from trainer.algorithms.policy_split import PolicySplitAlgorithm

ALGORITHMS: dict[str, type[Algorithm]] = {
    "grpo": GrpoAlgorithm,
    "policy_split": PolicySplitAlgorithm,
}


def build_algorithm(spec: AlgorithmSpec) -> Algorithm:
    """The algorithm that ``spec`` describes."""
    return ALGORITHMS[spec.type](spec)
