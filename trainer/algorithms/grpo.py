"""GRPO (Shao et al., arXiv 2402.03300): one mode, group-relative advantage, clipped ratio."""

from trainer.algorithms.base import Algorithm


class GrpoAlgorithm(Algorithm):
    """The base class as it is: samples and trains the normal mode alone."""
