"""DAPO (Yu et al., arXiv 2503.14476): clip-higher, token mean, dynamic sampling, soft overlong punishment.

Clip-higher and the token mean are defaults of the spec. With one update per batch every ratio is 1, and
clip-higher changes nothing. The overlong penalty is the paper's number, 1, on rewards from 0 to 1 in place of
its -1 and 1: twice as heavy in proportion, unless ``overlong_penalty`` is 0.5. A group is dropped when the
grader gave all its responses the same reward (before the overlong penalty, as in the paper), and replaced by
further items (``trainer.loop``). With ``uniqueness`` a group of different right answers has something to
prefer and is kept.
"""

from torch import Tensor

from trainer.algorithms.base import Algorithm
from trainer.objective.advantage import has_variance
from trainer.objective.shaping import overlong_penalty
from trainer.spec.algorithm import Dapo
from trainer.types import Group


class DapoAlgorithm(Algorithm):
    """Drops groups that teach nothing, and punishes responses that come near the limit."""

    spec: Dapo

    def shaped_rewards(self, group: Group) -> Tensor:
        limit, buffer = self.max_response_tokens, self.spec.overlong_buffer
        if limit is None or buffer == 0:
            return group.rewards_G
        penalty_G = overlong_penalty(group.lengths_G, limit, limit / 5 if buffer is None else buffer)
        return group.rewards_G + self.spec.overlong_penalty * penalty_G

    def keeps(self, group: Group) -> bool:
        return has_variance(self._unique(group.rewards_G, group))

    @property
    def resampling_rounds(self) -> int:
        return self.spec.resampling_rounds
