"""What a step came to, as a few hashes: two runs that agree on them have done the same step.

A resumed run is compared with an uninterrupted one by these, and a replayed step with what it once was.
"""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from trainer.model.rows import Row
from trainer.spec.events import StepDigest
from trainer.types import Group


def step_digest(groups: Sequence[Group], grad_norm: float, weights: str | None) -> StepDigest:
    """The digest of a step.

    Args:
        groups: all that were sampled, dropped ones too.
        grad_norm: of the step's last update, before clipping.
        weights: :func:`weights_sha256` after the step, where a checkpoint is saved.
    """
    return StepDigest(
        rollouts=_sha256(
            (
                *(group.index, group.item_index, number, rollout.behavior_mode.value),
                *(tuple(group.prompt_ids[rollout.behavior_mode]), tuple(rollout.response_ids)),
            )
            for group in groups
            for number, rollout in enumerate(group.rollouts)
        ),
        rewards=_sha256((rollout.reward,) for group in groups for rollout in group.rollouts),
        grad_norm=grad_norm,
        weights=weights,
    )


def lesson_digest(
    lessons: Iterable[tuple[int, Sequence[Row]]], grad_norm: float, weights: str | None
) -> StepDigest:
    """The digest of a step that learnt from rows, by their lines; in place of rewards, what is learnt."""
    lessons = list(lessons)
    return StepDigest(
        rollouts=_sha256(
            (line, *((*row.context_ids, *row.response_ids) for row in rows)) for line, rows in lessons
        ),
        rewards=_sha256(tuple(tuple(row.trained or ()) for row in rows) for _, rows in lessons),
        grad_norm=grad_norm,
        weights=weights,
    )


def weights_sha256(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors with their names, which are in order; hex."""
    digest = hashlib.sha256()
    for name, tensor in weights:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, whatever the type: NumPy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sha256(rows: Iterable[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode() + b"\n")
    return digest.hexdigest()
