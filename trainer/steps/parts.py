"""How a batch's groups are divided into micro-batches.

A group whose rows fit one is a part of its own, beside others. One with more rows is divided by responses:
first to be scored, each response under all prompts (``scored``), then to train row by row (``trained``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from trainer.algorithms.base import GroupPlan
from trainer.distributed.ranks import Ranks
from trainer.model.packing import Layout
from trainer.model.rows import LARGEST_MICRO_BATCH_TOKENS, Row, fits, micro_batches
from trainer.model.scoring import group_rows
from trainer.objective.transfer import fetch, placed
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Given, Old

MICRO_BATCH_TOKENS = 4096
"""Positions up to which groups go together: more hardly make matrix products faster, and need memory."""


@dataclass(eq=False)
class Part:
    """A group, or some of its responses, under the prompts of some modes: what is scored at once."""

    plan: GroupPlan
    modes: tuple[Mode, ...]
    given: dict[Mode, Given] | None = None
    """What was formed of the whole group, where this is a part of it that was scored before."""
    old: Old | None = None
    """From the first forward pass with gradients: the policy that sampled."""

    @property
    def rows(self) -> list[Row]:
        """Each response under each mode's prompt."""
        return group_rows(self.plan.group, self.modes)


MicroBatch = list[Part]

Unit = tuple[GroupPlan, tuple[Mode, ...], int]
"""A response of a group, under the prompts of modes."""


class Division:
    """This rank's micro-batches of a batch, as many as every other rank's; the rest are empty ones.

    Args:
        positions: the largest micro-batch; a response that is longer, under one prompt, is one of its own.
    """

    def __init__(self, modes: tuple[Mode, ...], positions: int | None, layout: Layout, ranks: Ranks):
        self._modes, self._ranks = modes, ranks
        self._layout: Layout = layout
        self._largest = LARGEST_MICRO_BATCH_TOKENS if positions is None else positions

    def by_size(self, plans: Sequence[GroupPlan]) -> tuple[list[GroupPlan], list[GroupPlan]]:
        """Groups whose rows fit one micro-batch, and the others."""
        small: list[GroupPlan] = []
        large: list[GroupPlan] = []
        for plan in plans:
            one = fits(Part(plan, self._modes).rows, self._largest, self._layout)
            (small if one or not _present(plan) else large).append(plan)
        return small, large

    def whole(self, plans: Sequence[GroupPlan]) -> list[MicroBatch]:
        """Whole groups together, up to ``MICRO_BATCH_TOKENS``; each rank has a run of them."""
        shares = [self._together(share) for share in self._ranks.shares(plans)]
        most = max(map(len, shares))
        own = shares[self._ranks.rank]
        return own + [[] for _ in range(most - len(own))]

    def scored(self, plans: Sequence[GroupPlan]) -> list[MicroBatch]:
        """All responses of groups that do not fit, each under all prompts."""
        return self._divided([(plan, self._modes, i) for plan in plans for i in _present(plan)])

    def trained(self, plans: Sequence[GroupPlan], modes: Sequence[Mode]) -> list[MicroBatch]:
        """The rows of such groups that train under each of ``modes``."""
        return self._divided(
            [
                (plan, (mode,), i)
                for plan in plans
                for mode in modes
                for i in _present(plan)
                if bool(plan.trains_G[mode][i])
            ]
        )

    def _together(self, plans: Sequence[GroupPlan]) -> list[MicroBatch]:
        together = min(self._largest, MICRO_BATCH_TOKENS)
        found: list[MicroBatch] = [[]]
        for plan in plans:
            part = Part(plan, self._modes)
            rows = [row for one in (*found[-1], part) for row in one.rows]
            if found[-1] and not fits(rows, together, self._layout):
                found.append([])
            found[-1].append(part)
        return found if plans else []

    def _divided(self, units: Sequence[Unit]) -> list[MicroBatch]:
        divided = micro_batches(
            units,
            lambda unit: [
                Row(unit[0].group.prompt_ids[mode], unit[0].group.rollouts[unit[2]].response_ids)
                for mode in unit[1]
            ],
            self._largest,
            self._layout,
            multiple_of=self._ranks.world,
        )
        own = divided[self._ranks.rank :: self._ranks.world]
        return [[_joined(list(run)) for _, run in groupby(micro, key=_of)] for micro in own]


def _of(unit: Unit) -> tuple[int, tuple[Mode, ...]]:
    return id(unit[0]), unit[1]


def _joined(units: Sequence[Unit]) -> Part:
    plan, modes, _ = units[0]
    return Part(plan.only([response for _, _, response in units]), modes)


def _present(plan: GroupPlan) -> list[int]:
    """The responses that have tokens."""
    return [i for i, rollout in enumerate(plan.group.rollouts) if rollout.response_ids]


Pieces = list[tuple[GroupPlan, Old]]
"""Groups or parts of them, as they were scored."""


def together(
    pieces: Pieces, plans: Sequence[GroupPlan], ranks: Ranks, device: torch.device
) -> dict[int, Old]:
    """Whole groups, by their index, from each rank's pieces of them; those of ``plans`` that have any.

    Collective. What a piece does not have is 0: responses without tokens alone.
    """
    own = [
        (plan.group.index, plan.tokens_T, name, mode, value_T)
        for plan, old in pieces
        for name, values in (("logp_T", old.logp_T), ("entropy_T", old.entropy_T or {}))
        for mode, value_T in values.items()
    ]
    if ranks.world > 1:
        fetched = fetch([value_T for *_, value_T in own])
        own = [
            (index, tokens_T, name, mode, value_T)
            for (index, tokens_T, name, mode, _), value_T in zip(own, fetched, strict=True)
        ]
    told = ranks.gather(own)
    tokens = {plan.group.index: int(plan.group.lengths_G.sum()) for plan in plans}
    whole: dict[int, dict[str, dict[Mode, Tensor]]] = {}
    for index, tokens_T, name, mode, value_T in (piece for of_rank in told for piece in of_rank):
        values = whole.setdefault(index, {}).setdefault(name, {})
        if tokens_T is None:
            values[mode] = placed(value_T, device)
        else:
            of_group_T = values.setdefault(mode, value_T.new_zeros(tokens[index], device=device))
            of_group_T[placed(tokens_T, device)] = placed(value_T, device)
    return {index: Old(values["logp_T"], values.get("entropy_T")) for index, values in whole.items()}
