"""The update of a step that learns from rows: forward and backward over micro-batches, then the optimizer."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.distributed.ranks import Ranks
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.rows import Row, micro_batches
from trainer.model.scoring import score_rows
from trainer.objective.metrics import MetricSums
from trainer.objective.preference import preference_loss
from trainer.objective.supervised import supervised_loss
from trainer.objective.transfer import Total, chosen
from trainer.spec.modes import Mode
from trainer.steps.parts import MICRO_BATCH_TOKENS
from trainer.steps.progress import Progress


@dataclass(frozen=True)
class Example:
    """What a line of the file teaches: its rows in each mode."""

    line: int
    rows: dict[Mode, list[Row]]

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(
            len(row.context_ids) + len(row.response_ids) for rows in self.rows.values() for row in rows
        )


#: Rows that are scored together, and the mode that they train in: a lesson, or both sides of a preference.
Unit = tuple[Mode, tuple[Row, ...]]


class Teaching(ABC):
    """What a method makes of examples: the units that are scored together, and their loss."""

    @abstractmethod
    def units(self, examples: Sequence[Example]) -> list[Unit]:
        """The examples' rows."""

    @abstractmethod
    def size(self, units: Sequence[Unit]) -> int:
        """What the loss of a batch is a mean over."""

    def idle(self, policy: Policy) -> Tensor:
        """The passes of ``loss`` without units, which other ranks have: 0, connected to them. A scalar."""
        return score_rows(policy, ()).logp_T.sum()

    @abstractmethod
    def loss(self, policy: Policy, units: Sequence[Unit], size: int, metrics: MetricSums) -> Tensor:
        """The units' share of the loss of a batch of ``size``; adds to ``metrics``. A scalar."""


class SupervisedTeaching(Teaching):
    """Learns to say what the rows say."""

    def units(self, examples: Sequence[Example]) -> list[Unit]:
        return [(mode, (row,)) for one in examples for mode, rows in one.rows.items() for row in rows]

    def size(self, units: Sequence[Unit]) -> int:
        return trained_tokens(units)

    def loss(self, policy: Policy, units: Sequence[Unit], size: int, metrics: MetricSums) -> Tensor:
        scores = score_rows(policy, [row for _, rows in units for row in rows], compares=True)
        lengths = [row.trained_tokens for _, rows in units for row in rows]
        nll_T = -scores.logp_T.detach()
        metrics.add_mean("loss", nll_T)
        assert scores.likeliest_T is not None
        metrics.add_mean("token_accuracy", scores.likeliest_T.double())
        of_rows = zip(units, nll_T.split(lengths), scores.entropy_T.split(lengths), strict=True)
        for (mode, _), of_row, entropy_T in of_rows:
            metrics.add_mean(f"{mode.label}/loss", of_row)
            metrics.add_mean(f"{mode.label}/entropy_nats", entropy_T)
        return supervised_loss(scores.logp_T, size)


class PreferenceTeaching(Teaching):
    """Prefers one answer to another."""

    def __init__(self, beta: float, reference: Policy):
        self._beta, self._reference = beta, reference

    def units(self, examples: Sequence[Example]) -> list[Unit]:
        return [(mode, tuple(rows)) for one in examples for mode, rows in one.rows.items()]

    def size(self, units: Sequence[Unit]) -> int:
        return len(units)

    def idle(self, policy: Policy) -> Tensor:
        with torch.no_grad(), self._reference.as_reference():
            score_rows(self._reference, ())
        return super().idle(policy)

    def loss(self, policy: Policy, units: Sequence[Unit], size: int, metrics: MetricSums) -> Tensor:
        rows = [row for _, pair in units for row in pair]
        with torch.no_grad(), self._reference.as_reference():
            reference_T = score_rows(self._reference, rows).logp_T
        scores = score_rows(policy, rows, compares=True)
        lengths = [row.trained_tokens for row in rows]
        logp_2B, reference_2B = (
            torch.stack([one.sum() for one in of_tokens.split(lengths)]).view(-1, 2)
            for of_tokens in (scores.logp_T, reference_T)
        )
        found = preference_loss(logp_2B, reference_2B, self._beta)
        assert scores.likeliest_T is not None
        # Of the preferred answers: the others should not be said.
        wanted_T = torch.tensor([at % 2 == 0 for at, length in enumerate(lengths) for _ in range(length)])
        wanted_T = chosen(wanted_T, scores.logp_T.device)
        metrics.add_mean("loss", found.loss_B)
        metrics.add_mean("token_accuracy", scores.likeliest_T[wanted_T].double())
        metrics.add_mean(f"{Mode.NORMAL.label}/entropy_nats", scores.entropy_T[wanted_T])
        metrics.add_mean("preference_accuracy", (found.reward_B > found.other_reward_B).double())
        metrics.add_mean("preference_margin", found.reward_B - found.other_reward_B)
        metrics.add_mean("preferred_reward", found.reward_B)
        metrics.add_mean("non_preferred_reward", found.other_reward_B)
        return found.loss_B.sum() / size


def trained_tokens(units: Sequence[Unit]) -> int:
    """How many tokens the units train."""
    return sum(row.trained_tokens for _, rows in units for row in rows)


@dataclass
class Taught:
    """What an update leaves behind."""

    learning_rate: float
    tokens: int
    """Learnt tokens."""
    loss: float = 0.0
    grad_norm: float = 0.0
    metrics: MetricSums = field(default_factory=MetricSums)
    optimizer_seconds: float = 0.0


def teach(
    policy: Policy,
    teaching: Teaching,
    examples: Sequence[Example],
    optimizer: MasterAdamW,
    *,
    update: int,
    ranks: Ranks,
    progress: Progress,
    tokens_per_micro_batch: int | None = None,
) -> Taught:
    """One optimizer step on ``examples``, of which each rank computes its share; collective.

    A forward pass has ``tokens_per_micro_batch`` positions at most, or one unit that has more.
    """
    units = teaching.units(examples)
    size = teaching.size(units)
    result = Taught(optimizer.learning_rate(update), trained_tokens(units))
    loss = Total()
    for part in _parts(policy, units, ranks, tokens_per_micro_batch):
        if part:
            total = teaching.loss(policy, part, size, result.metrics)
            total.backward()
            result.metrics.pending.later(total, loss.add)
        elif policy.sharding is not None:
            teaching.idle(policy).backward()
        progress.beat()
    result.metrics.pending.fetch()
    result.loss = sum(ranks.gather(loss.value))
    optimizer.add_up(ranks)
    started = time.perf_counter()
    result.grad_norm = optimizer.step(update)
    result.optimizer_seconds = time.perf_counter() - started
    result.metrics.add_up(ranks)
    return result


@torch.no_grad()
def measure(
    policy: Policy,
    teaching: Teaching,
    examples: Sequence[Example],
    *,
    ranks: Ranks,
    progress: Progress,
    tokens_per_micro_batch: int | None = None,
) -> dict[str, float]:
    """The loss of the weights as they are, and what is measured with it; collective."""
    metrics = MetricSums()
    for part in _parts(policy, teaching.units(examples), ranks, tokens_per_micro_batch):
        if part:
            teaching.loss(policy, part, 1, metrics)
        else:
            teaching.idle(policy)
        progress.beat()
    metrics.add_up(ranks)
    return metrics.result()


def _parts(policy: Policy, units: Sequence[Unit], ranks: Ranks, bound: int | None) -> list[list[Unit]]:
    """This rank's micro-batches."""
    positions = min(bound or MICRO_BATCH_TOKENS, MICRO_BATCH_TOKENS)
    found = micro_batches(units, lambda unit: unit[1], positions, policy.layout, multiple_of=ranks.world)
    return found[ranks.rank :: ranks.world]
