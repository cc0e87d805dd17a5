"""The rules that the calibration compares, over many experiments at once.

``after`` is what reports do, on arrays; a test holds it to ``analysis.analyse``. ``before`` is what they did
until seeds were part of the test, kept so that anybody can see the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.statistics.bootstrap import stretch
from trainer.statistics.claims import levels
from trainer.statistics.crossed import pooled_p
from trainer.statistics.permutation import sign_flip_ps
from trainer.statistics.power import ALPHA
from trainer.statistics.simulated import Experiments

#: Of signs, and of the bootstrap; and how many draws lie beyond each end of its interval.
_SIGNS, _DRAWS, _TAIL = 999, 400, 10


@dataclass(frozen=True)
class Verdicts:
    """Of many experiments (E), tasks (T) and baselines (K)."""

    #: The report names a winner between the method and this arm.
    named: np.ndarray  # (E, T, K)
    #: The claim is decided on this task.
    claim: np.ndarray  # (E, T)
    #: The comparison, judged alone, is decided; and its interval holds a true difference of zero.
    alone: np.ndarray  # (E, T, K)
    covered: np.ndarray  # (E, T, any)
    delta: np.ndarray  # (E, T, K)
    #: Of the comparison that the claim shows.
    claim_delta: np.ndarray  # (E, T)

    @property
    def any_named(self) -> np.ndarray:
        """Whether an experiment's report names anybody: (E,)."""
        return np.logical_or(self.named.any(axis=(1, 2)), self.claim.any(axis=1))

    @classmethod
    def together(cls, parts: Sequence["Verdicts"]) -> "Verdicts":
        """All experiments of the parts."""
        return cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in cls.__annotations__))


def after(experiment: Experiments) -> Verdicts:
    """The claim against every baseline, and all comparisons, by the crossed test."""
    squares = experiment.squares
    # p is solved for where it can matter: a comparison that is not found alone is found nowhere.
    alone = np.abs(squares.mean) > squares.half_width(ALPHA)
    p = np.ones(squares.mean.shape)
    p[alone] = squares[alone].p()
    return _judged(experiment, p, alone, np.abs(squares.mean) <= squares.half_width(ALPHA))


def pooled(experiment: Experiments) -> Verdicts:
    """The same with the simpler test."""
    p = pooled_p(experiment.squares)
    return _judged(experiment, p, p <= ALPHA, p > ALPHA)


def _judged(experiment: Experiments, p: np.ndarray, alone: np.ndarray, covered: np.ndarray) -> Verdicts:
    delta = experiment.squares.mean
    of_claims, of_others = levels(True, True)
    claim_p = np.where(delta > 0, p, 1.0).max(axis=2)
    claim = _holm(claim_p, of_claims)
    closest = np.take_along_axis(delta, delta.argmin(axis=2)[..., None], axis=2)[..., 0]
    return Verdicts(
        named=_holm(p.reshape(len(p), -1), of_others).reshape(p.shape) | claim[..., None],
        claim=claim,
        alone=alone,
        covered=covered,
        delta=delta,
        claim_delta=closest,
    )


def before(experiment: Experiments) -> Verdicts:
    """The strongest baseline on dev; corrected sign-flips over items, and an uncorrected interval."""
    differences = experiment.differences
    shape, (seeds, items) = differences.shape[:3], differences.shape[3:]
    flat = differences.reshape(-1, seeds, items)
    p = np.concatenate(
        [sign_flip_ps(part, seed=1, draws=_SIGNS) for part in np.array_split(flat.mean(axis=1), 8)]
    ).reshape(shape)
    # The interval matters where p allows a verdict; of the others, one a task is enough for its coverage.
    wanted = p <= ALPHA
    wanted[..., 0] = True
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    low[wanted], high[wanted] = _bootstrap(flat[wanted.reshape(-1)])
    excluded = (low > 0) | (high < 0)
    strongest = experiment.dev.argmax(axis=2)[..., None]

    def of_strongest(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, strongest, axis=2)[..., 0]

    delta = differences.mean(axis=(3, 4))
    return Verdicts(
        named=_holm(p.reshape(len(p), -1), ALPHA).reshape(shape) & excluded,
        claim=_holm(of_strongest(p), ALPHA) & of_strongest(excluded),
        alone=(p <= ALPHA) & excluded,
        covered=~excluded[..., :1],
        delta=delta,
        claim_delta=of_strongest(delta),
    )


def _holm(ps_EM: np.ndarray, alpha: float) -> np.ndarray:
    """Which of each row's hypotheses Holm rejects at ``alpha``."""
    order_EM = ps_EM.argsort(axis=1)
    hypotheses: int = ps_EM.shape[1]
    left_M = np.arange(hypotheses, 0, -1)
    passed_EM = np.logical_and.accumulate(
        np.take_along_axis(ps_EM, order_EM, axis=1) * left_M <= alpha, axis=1
    )
    rejected_EM = np.zeros(ps_EM.shape, dtype=bool)
    np.put_along_axis(rejected_EM, order_EM, passed_EM, axis=1)
    return rejected_EM


def _bootstrap(differences_ESI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two-level interval of every experiment, under the same draws for all of them."""
    _, seeds, items = differences_ESI.shape
    random = np.random.default_rng(2)
    seeds_BS, items_BI = (
        (random.multinomial(n, np.full(n, 1 / n), size=_DRAWS) / n).astype(np.float32) for n in (seeds, items)
    )
    ends: list[np.ndarray] = []
    for part_ESI in np.array_split(differences_ESI, max(1, len(differences_ESI) // 500)):
        mean_E = part_ESI.mean(axis=(1, 2))[:, None]
        total_EB = sum(part_ESI[:, s] @ items_BI.T * seeds_BS[:, s] for s in range(seeds))
        of_seeds_EB = part_ESI.mean(axis=2) @ seeds_BS.T - mean_E
        of_items_EB = part_ESI.mean(axis=1) @ items_BI.T - mean_E
        total_EB += (stretch(seeds, 1 - ALPHA) - 1) * of_seeds_EB + (
            stretch(items, 1 - ALPHA) - 1
        ) * of_items_EB
        total_EB.sort(axis=1)
        ends.append(total_EB[:, [_TAIL, _DRAWS - 1 - _TAIL]].T)
    low, high = np.concatenate(ends, axis=1)
    return low, high
