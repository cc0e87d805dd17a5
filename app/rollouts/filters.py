"""Which rollouts are wanted: said once of rows, in SQL, and once of what an archive has."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select

from app.core.tables import Rollout

#: Step, group and index: what rollouts are in the order of.
Key = tuple[int, int, int]


def key_of(row: Rollout) -> Key:
    return row.step, row.group, row.index


@dataclass(frozen=True)
class Filter:
    """Which rollouts to list; None does not restrict."""

    step: int | None = None
    group: int | None = None
    mode: str | None = None
    item: int | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    graded: bool | None = None
    search: str | None = None

    def narrowed(self, query: Select[Any]) -> Select[Any]:
        """``query`` of rows with all restrictions but ``search``, for which there is an index."""
        for column, value in (
            (Rollout.step, self.step),
            (Rollout.group, self.group),
            (Rollout.mode, self.mode),
            (Rollout.item, self.item),
        ):
            if value is not None:
                query = query.where(column == value)
        if self.min_reward is not None:
            query = query.where(Rollout.reward >= self.min_reward)
        if self.max_reward is not None:
            query = query.where(Rollout.reward <= self.max_reward)
        if self.graded is not None:
            query = query.where(Rollout.reward.is_not(None) if self.graded else Rollout.reward.is_(None))
        return query

    def takes(self, row: Rollout) -> bool:
        """Whether a rollout is one of those that are wanted."""
        same = (
            (self.step, row.step),
            (self.group, row.group),
            (self.mode, row.mode),
            (self.item, row.item),
            (self.graded, row.reward is not None),
        )
        if any(wanted is not None and wanted != found for wanted, found in same):
            return False
        if self.min_reward is not None and (row.reward is None or row.reward < self.min_reward):
            return False
        if self.max_reward is not None and (row.reward is None or row.reward > self.max_reward):
            return False
        words = (self.search or "").lower()
        return words in row.prompt.lower() or words in row.response.lower()
