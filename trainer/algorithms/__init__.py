"""The algorithms, by the ``type`` of their spec."""

from trainer.algorithms.adaptive_entropy import AdaptiveEntropyAlgorithm
from trainer.algorithms.base import Algorithm
from trainer.algorithms.cispo import CispoAlgorithm
from trainer.algorithms.clip_cov import ClipCovAlgorithm
from trainer.algorithms.dapo import DapoAlgorithm
from trainer.algorithms.dr_grpo import DrGrpoAlgorithm
from trainer.algorithms.edge_grpo import EdgeGrpoAlgorithm
from trainer.algorithms.entropy_advantage import EntropyAdvantageAlgorithm
from trainer.algorithms.entropy_bonus import EntropyBonusAlgorithm
from trainer.algorithms.forking_tokens import ForkingTokensAlgorithm
from trainer.algorithms.grpo import GrpoAlgorithm
from trainer.algorithms.gspo import GspoAlgorithm
from trainer.algorithms.kl_cov import KlCovAlgorithm
from trainer.algorithms.policy_split import PolicySplitAlgorithm
from trainer.spec.algorithm import AlgorithmSpec

ALGORITHMS: dict[str, type[Algorithm]] = {
    "grpo": GrpoAlgorithm,
    "dr_grpo": DrGrpoAlgorithm,
    "dapo": DapoAlgorithm,
    "gspo": GspoAlgorithm,
    "cispo": CispoAlgorithm,
    "entropy_bonus": EntropyBonusAlgorithm,
    "adaptive_entropy": AdaptiveEntropyAlgorithm,
    "entropy_advantage": EntropyAdvantageAlgorithm,
    "clip_cov": ClipCovAlgorithm,
    "kl_cov": KlCovAlgorithm,
    "forking_tokens": ForkingTokensAlgorithm,
    "edge_grpo": EdgeGrpoAlgorithm,
    "policy_split": PolicySplitAlgorithm,
}


def build_algorithm(
    spec: AlgorithmSpec,
    max_response_tokens: int | None = None,
    engine: str = "transformers",
    forced: bool = False,
    staleness: int = 0,
) -> Algorithm:
    """The algorithm that ``spec`` describes.

    ``max_response_tokens`` is the limit of responses; without one, none is overlong. ``engine`` samples them,
    ``forced`` to a form or not, with the weights of up to ``staleness`` steps before.
    """
    return ALGORITHMS[spec.type](spec, max_response_tokens, engine, forced, staleness)
