"""DAPO (Yu et al., arXiv 2503.14476): clip-higher, token mean, dynamic sampling, soft overlong punishment.

Clip-higher and the token mean are defaults of the spec. With one update per batch every ratio is 1, and
clip-higher changes nothing. A group is dropped when the grader gave all its responses the same reward
(before the overlong penalty, as in the paper), and replaced by further items (``trainer.loop``).
"""

from torch import Tensor

from trainer.advantage import has_variance
from trainer.algorithm_spec import Dapo
from trainer.algorithms.base import Algorithm
from trainer.shaping import overlong_penalty
from trainer.types import Group


class DapoAlgorithm(Algorithm):
    """Drops groups that teach nothing, and punishes responses that come near the limit."""

    spec: Dapo

    def shaped_rewards(self, group: Group) -> Tensor:
        limit, buffer = self.max_response_tokens, self.spec.overlong_buffer
        if limit is None or buffer == 0:
            return group.rewards_G
        penalty_G = overlong_penalty(group.lengths_G, limit, limit / 5 if buffer is None else buffer)
        return group.rewards_G + penalty_G

    def keeps(self, group: Group) -> bool:
        return has_variance(group.rewards_G)

    @property
    def resampling_rounds(self) -> int:
        return self.spec.resampling_rounds
