"""Evaluation of both modes on the validation items, without touching the training's randomness.

There is one validation set, so names have no task in them: ``eval/{N,H}/...``, ``eval/mix/...``,
``eval/only_{H,N}`` (``trainer.outcomes``), ``eval/{kl_H_N,kl_N_H,js}/prefix_{N,H}``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import torch

from trainer.data.items import Item
from trainer.diagnostics.divergence import mode_divergences
from trainer.embedding import Encoder
from trainer.entropy import NATS_TO_BITS
from trainer.generation import build_group, error_metrics, grade_groups, sample_groups
from trainer.graders.grade import Grader
from trainer.logprobs import OutputLayer
from trainer.metrics import MetricSums
from trainer.modes import Mode
from trainer.outcomes import accuracy_metrics, diversity_metrics, embedding_metrics, item_outcomes
from trainer.policy import Policy
from trainer.ranks import ALONE, Ranks
from trainer.rollout.engine import RolloutEngine
from trainer.scoring import score_groups
from trainer.spec import EvaluationSpec, RolloutSpec
from trainer.statistics.outcomes import ModeLabel, ModeOutcomes
from trainer.types import Group


@torch.no_grad()
def evaluate(
    policy: Policy,
    engine: RolloutEngine,
    items: Sequence[Item],
    grader: Grader,
    answer: Callable[[str], str | None],
    modes: tuple[Mode, ...],
    *,
    evaluation: EvaluationSpec,
    rollout: RolloutSpec,
    seed: int,
    step: int,
    on_progress: Callable[[], None],
    encoder: Encoder | None = None,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], dict[ModeLabel, ModeOutcomes]]:
    """Sample every item in ``modes``, grade, and measure: outcomes, diversity, entropy, divergence.

    The metrics by name, and the outcomes item by item.

    The same items and, per step, the same draws whatever was trained. ``answer`` is what votes compare;
    ``encoder`` measures the embedding diversity, which is left out without one. Each of ``ranks`` measures
    its share of the items' tokens; joint.
    """
    count = min(len(items), evaluation.max_items)
    groups = [
        build_group(policy, items[index], index, index, rollout.max_prompt_tokens) for index in range(count)
    ]
    sample_groups(
        engine,
        groups,
        dict.fromkeys(modes, evaluation.samples_per_item),
        seed=(seed, "evaluate", step),
        max_tokens=rollout.max_response_tokens,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        top_k=evaluation.top_k,
        on_progress=on_progress,
    )
    errors = grade_groups(policy, groups, grader, on_progress=on_progress, ranks=ranks)
    metrics = MetricSums()
    output = policy.output_layer()
    for group in ranks.share(groups):
        _observe_responses(group, metrics)
        measured = _first_of_each(group, modes, evaluation.token_metric_samples)
        _observe_tokens(policy, output, measured, modes, metrics)
        on_progress()
    metrics.add_up(ranks)
    values = metrics.result() | accuracy_metrics(groups, modes, answer)
    values |= diversity_metrics(groups, modes, policy.stop_ids)
    if encoder is not None:
        embed = encoder.embed
        values |= ranks.from_first(
            lambda: embedding_metrics(groups, modes, policy.stop_ids, policy.text, embed)
        )
        on_progress()
    return values | error_metrics("eval", errors), item_outcomes(groups, modes)


def _observe_responses(group: Group, metrics: MetricSums) -> None:
    for rollout in group.rollouts:
        prefix = f"eval/{rollout.behavior_mode.label}"
        if rollout.reward is not None:
            metrics.add_mean(f"{prefix}/reward", torch.tensor([rollout.reward]))
        metrics.add_mean(f"{prefix}/length", torch.tensor([float(len(rollout.response_ids))]))
        metrics.add_mean(f"{prefix}/truncated", torch.tensor([float(rollout.truncated)]))


def _first_of_each(group: Group, modes: tuple[Mode, ...], samples: int | None) -> Group:
    """The group with the first ``samples`` responses of each mode; None: all."""
    of_mode = ([r for r in group.rollouts if r.behavior_mode is mode][:samples] for mode in modes)
    return replace(group, rollouts=list(chain.from_iterable(of_mode)))


def _observe_tokens(
    policy: Policy, output: OutputLayer, group: Group, modes: tuple[Mode, ...], metrics: MetricSums
) -> None:
    """Entropy and divergence over the full vocabulary at temperature 1, however the tokens were sampled."""
    (scores,) = score_groups(policy, [group], modes)
    response_of_T = group.response_of_T
    for mode in modes:
        own_T = group.produced_by(mode)[response_of_T].to(policy.device)
        entropy_T = scores[mode].entropy_T[own_T]
        metrics.add_mean(f"eval/{mode.label}/entropy_nats", entropy_T)
        metrics.add_mean(f"eval/{mode.label}/entropy_bits", entropy_T * NATS_TO_BITS)
    if len(modes) == 2:
        divergences = mode_divergences(
            scores[Mode.NORMAL].hidden_TD, scores[Mode.HIGH_ENTROPY].hidden_TD, output
        )
        for mode in modes:
            prefix_T = group.produced_by(mode)[response_of_T].to(policy.device)
            for name, value_T in divergences.items():
                metrics.add_mean(f"eval/{name}/prefix_{mode.label}", value_T[prefix_T])
