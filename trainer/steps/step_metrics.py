"""The metrics of a training step, assembled from its phases' results."""

from trainer.objective.advantage import has_variance
from trainer.objective.metrics import MetricSums
from trainer.spec.modes import Mode
from trainer.statistics.distinct import right_answers
from trainer.steps.context import StepContext
from trainer.steps.generation import error_metrics, observe_form
from trainer.steps.resampling import Collected
from trainer.steps.thoughts import thought_metrics
from trainer.steps.update import UpdateResult
from trainer.types import Group

#: Longer names are not used as metric names.
MAX_SCORE_NAME = 200


def step_metrics(context: StepContext, collected: Collected, result: UpdateResult) -> dict[str, float]:
    """Everything that sampling, grading and the update measured, by name."""
    return (
        result.metrics.result()
        | context.algorithm.schedule_metrics(context.step)
        | mode_metrics(collected.sampled)
        | (answer_metrics(collected.sampled) if context.grader.gives_answers else {})
        | (form_metrics(collected.sampled) if context.form is not None else {})
        | thought_metrics(collected.sampled, result.entropy_T)
        | resampling_metrics(context, collected)
        | {
            "train/loss": result.loss,
            "train/grad_norm": result.grad_norm,
            "train/lr": result.learning_rate,
            "train/tokens_trained": float(result.trained_tokens),
        }
        | error_metrics("train", collected.errors)
    )


def mode_metrics(groups: list[Group]) -> dict[str, float]:
    """Reward, length and truncation per behaviour mode, the share of groups with nothing to prefer, the
    graders' scores by name, and what was generated; over all groups that were sampled, dropped ones too."""
    sums = MetricSums()
    for group in groups:
        for mode in Mode:
            own = group.produced_by(mode)
            label = mode.label
            rewards = group.rewards_G[own]
            sums.add_mean(f"train/{label}/reward", rewards[~rewards.isnan()])
            sums.add_mean(f"train/{label}/length", group.lengths_G[own])
            truncated = [float(r.truncated) for r in group.rollouts if r.behavior_mode is mode]
            sums.add_mean(f"train/{label}/truncated", group.rewards_G.new_tensor(truncated))
        for rollout in group.rollouts:
            for name, score in rollout.scores.items():
                if len(name) <= MAX_SCORE_NAME:
                    sums.add_mean(f"scores/{name}", group.rewards_G.new_tensor([score]))
        flat = not has_variance(group.rewards_G)
        sums.add_mean("train/zero_variance", group.rewards_G.new_tensor([float(flat)]))
    return sums.result() | {
        "train/samples_generated": float(sum(len(group.rollouts) for group in groups)),
        "train/tokens_generated": float(sum(int(group.lengths_G.sum()) for group in groups)),
    }


def form_metrics(groups: list[Group]) -> dict[str, float]:
    """``train/{N,H}/parse_error``."""
    sums = MetricSums()
    for group in groups:
        observe_form(group, "train", sums)
    return sums.result()


def answer_metrics(groups: list[Group]) -> dict[str, float]:
    """``train/{N,H}/distinct_right``: different right answers among a prompt's responses of the mode, and
    ``train/{N,H}/largest_share``: of its right responses, how many give the most common answer."""
    sums = MetricSums()
    for group in groups:
        for mode in Mode:
            own = [r for r in group.rollouts if r.behavior_mode is mode and r.reward is not None]
            if not own:
                continue
            counts = right_answers([r.answer for r in own], [r.reward == 1.0 for r in own]).values()
            sums.add_mean(f"train/{mode.label}/distinct_right", group.rewards_G.new_tensor([len(counts)]))
            if counts:
                share = max(counts) / sum(counts)
                sums.add_mean(f"train/{mode.label}/largest_share", group.rewards_G.new_tensor([share]))
    return sums.result()


def resampling_metrics(context: StepContext, collected: Collected) -> dict[str, float]:
    """How often the step sampled again and what it dropped, if the algorithm does so."""
    if context.algorithm.resampling_rounds == 0 and not collected.dropped:
        return {}
    return {
        "train/sampling_rounds": float(collected.rounds),
        "train/groups_dropped": float(len(collected.dropped)),
    }
