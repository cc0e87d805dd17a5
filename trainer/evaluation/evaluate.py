"""Evaluation of both modes on the validation items, without touching the training's randomness.

There is one validation set, so names have no task in them: ``eval/{N,H}/...``, ``eval/mix/...``,
``eval/only_{H,N}`` (``trainer.evaluation.outcomes``), ``eval/{kl_H_N,kl_N_H,js}/prefix_{N,H}``.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, takewhile

import torch

from trainer.data.items import Item, Kept
from trainer.evaluation.meanings import answers_by_meaning
from trainer.evaluation.outcomes import (
    accuracy_metrics,
    diversity_metrics,
    embedding_metrics,
    graded_counts,
    item_outcomes,
)
from trainer.model.divergence import mode_divergences
from trainer.model.embedding import Encoder
from trainer.model.policy import Policy
from trainer.model.scoring import divided, prompts_of, score_groups
from trainer.objective.metrics import MetricSums
from trainer.objective.transfer import chosen
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.modes import Mode
from trainer.statistics.outcomes import ModeLabel, ModeOutcomes
from trainer.steps.context import StepContext
from trainer.steps.generation import (
    build_group,
    error_metrics,
    grade_groups,
    observe_form,
    sample_groups,
)
from trainer.steps.observation import NATS_TO_BITS
from trainer.steps.thoughts import observe_thought_entropy, observe_thought_length
from trainer.types import Group


@torch.no_grad()
def evaluate(
    context: StepContext,
    items: Sequence[Item],
    modes: tuple[Mode, ...],
    evaluation: EvaluationSpec,
    encoder: Encoder | None = None,
) -> tuple[dict[str, float], dict[ModeLabel, ModeOutcomes]]:
    """Sample every item in ``modes``, grade, and measure: outcomes, diversity, entropy, divergence.

    The metrics by name, and the outcomes item by item.

    Raises GraderFailed where nothing could be graded before the first step; later such an evaluation has no
    outcomes. The same items and, per step, the same draws whatever was trained. ``encoder`` measures the
    embedding diversity, which is left out without one, and says which responses are the same answer where the
    grader does not. Each rank measures its share of the items' tokens; collective.
    """
    policy, ranks, on_progress = context.policy, context.ranks, context.progress.beat
    rows = items.rows if isinstance(items, Kept) else len(items)
    chosen = list(takewhile(lambda item: item.index < evaluation.max_items, items))
    groups = [build_group(policy, item, item.index, item.index, None) for item in chosen]
    sample_groups(
        context,
        groups,
        dict.fromkeys(modes, evaluation.samples_per_item),
        "evaluate",
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        top_k=evaluation.top_k,
    )
    context.engine.rest()
    errors = grade_groups(context, groups, all_may_fail=context.step > 0)
    # The first rank has the grader; what is measured, and which checkpoint is the best by it, all must know.
    votes = ranks.from_first(lambda: context.grader.gives_answers)
    if encoder is not None and not votes:
        embed, similarity = encoder.embed, evaluation.answer_similarity
        answers = ranks.from_first(lambda: answers_by_meaning(policy, groups, embed, similarity))
        for group, of_group in zip(groups, answers, strict=True):
            for rollout, answer in zip(group.rollouts, of_group, strict=True):
                rollout.answer = answer
        votes = True
    metrics = MetricSums()
    parts: list[Group] = []
    for group in ranks.share(groups):
        _observe_responses(group, metrics)
        if context.form is not None:
            observe_form(group, "eval", metrics)
        measured = _first_of_each(group, modes, evaluation.token_metric_samples)
        prompted = [(measured, prompts_of(measured, modes))]
        parts += [part for (part,) in divided(prompted, policy.layout, context.positions)]
    most = max(ranks.gather(len(parts)))
    for part in parts:
        _observe_tokens(policy, part, modes, metrics)
        on_progress()
    for _ in range(
        most - len(parts)
    ):  # the others' passes need this rank's part of the weights, if it is one
        score_groups(policy, [], modes)
    metrics.add_up(ranks)
    values = metrics.result() | accuracy_metrics(groups, modes, votes)
    values |= graded_counts(groups, modes) | diversity_metrics(groups, modes, policy.stop_ids)
    if encoder is not None:
        embed = encoder.embed
        values |= ranks.from_first(
            lambda: embedding_metrics(groups, modes, policy.stop_ids, policy.text, embed)
        )
        on_progress()
    outcomes = item_outcomes(groups, modes, min(rows, evaluation.max_items), votes)
    return values | error_metrics("eval", errors), outcomes


def _observe_responses(group: Group, metrics: MetricSums) -> None:
    for rollout in group.rollouts:
        prefix = f"eval/{rollout.behavior_mode.label}"
        if rollout.reward is not None:
            metrics.add_mean(f"{prefix}/reward", torch.tensor([rollout.reward]))
        metrics.add_mean(f"{prefix}/length", torch.tensor([float(len(rollout.response_ids))]))
        metrics.add_mean(f"{prefix}/truncated", torch.tensor([float(rollout.truncated)]))
    observe_thought_length(group, "eval", metrics)


def _first_of_each(group: Group, modes: tuple[Mode, ...], samples: int | None) -> Group:
    """The group with the first ``samples`` responses of each mode; None: all."""
    of_mode = ([r for r in group.rollouts if r.behavior_mode is mode][:samples] for mode in modes)
    return replace(group, rollouts=list(chain.from_iterable(of_mode)))


def _observe_tokens(policy: Policy, group: Group, modes: tuple[Mode, ...], metrics: MetricSums) -> None:
    """Entropy and divergence over the full vocabulary at temperature 1, however the tokens were sampled."""
    (scores,) = score_groups(policy, [group], modes)
    response_of_T = group.response_of_T
    for mode in modes:
        own_T = chosen(group.produced_by(mode)[response_of_T], policy.device)
        entropy_T = scores[mode].entropy_T[own_T]
        own = replace(group, rollouts=[r for r in group.rollouts if r.behavior_mode is mode])
        observe_thought_entropy(own, entropy_T, "eval", metrics)
        metrics.add_mean(f"eval/{mode.label}/entropy_nats", entropy_T)
        metrics.add_mean(f"eval/{mode.label}/entropy_bits", entropy_T * NATS_TO_BITS)
    if len(modes) == 2:
        divergences = mode_divergences(
            scores[Mode.NORMAL].hidden_TD, scores[Mode.HIGH_ENTROPY].hidden_TD, policy.output_layer()
        )
        for mode in modes:
            prefix_T = chosen(group.produced_by(mode)[response_of_T], policy.device)
            for name, value_T in divergences.items():
                metrics.add_mean(f"eval/{name}/prefix_{mode.label}", value_T[prefix_T])
