"""What a run measures: every metric by the pattern of its name, with its unit and its meaning.

A part in braces stands for one of several words, or for any: ``{N,H}`` is a mode's label, ``{k}`` a number of
answers, ``{L}`` a layer, ``{name}`` a grader's or a probe's name for it.
"""

import re
from itertools import product
from typing import NamedTuple


class Metric(NamedTuple):
    """A metric, or a family of them."""

    pattern: str
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether ``name`` is one of them."""
        return re.fullmatch(_expression(self.pattern), name) is not None

    def names(self) -> list[str]:
        """Its names, where a part that stands for any word stays in braces."""
        parts = re.split(r"\{([^}]*,[^}]*)\}", self.pattern)
        return ["".join(words) for words in product(*(part.split(",") for part in parts))]


def _expression(pattern: str) -> str:
    parts = re.split(r"\{([^}]*)\}", pattern)
    for index in range(1, len(parts), 2):
        inside = parts[index]
        parts[index] = f"(?:{'|'.join(inside.split(','))})" if "," in inside else _ANY[inside]
    for index in range(0, len(parts), 2):
        parts[index] = re.escape(parts[index])
    return "".join(parts)


_ANY = {"k": r"\d+", "L": r"L\d+", "name": r".+", "part": r"(?:answer|reasoning)"}
_NEUTRAL = "; `_neutral`: with a neutral system prompt in the place of the high-entropy one, the control"

METRICS = (
    # learning
    Metric("train/{N,H}/reward", "0 to 1", "Mean reward of the responses the mode sampled in the step"),
    Metric("train/{N,H}/length", "tokens", "Mean length of its responses"),
    Metric("train/{N,H}/truncated", "share", "Responses cut off at the limit"),
    Metric(
        "train/{N,H}/entropy_nats", "nats", "Mean entropy of the next-token distribution over its responses"
    ),
    Metric("train/{N,H}/entropy_bits", "bits", "The same in bits"),
    Metric(
        "train/{N,H}/surprisal",
        "nats",
        "Mean negative log-probability of its responses' tokens under its own prompt",
    ),
    Metric("train/{N,H}/parse_error", "share", "Responses that do not match `response_format`"),
    Metric(
        "train/{N,H}/distinct_right",
        "answers",
        "Number of different right answers to a prompt among the mode's responses",
    ),
    Metric(
        "train/{N,H}/largest_share",
        "share",
        "Share of a prompt's right responses that give the most common right answer",
    ),
    Metric("train/{N,H}/{part}_length", "tokens", "Mean length of answers, or of the thinking before them"),
    Metric(
        "train/{N,H}/{part}_entropy_nats", "nats", "Mean token entropy within answers, or within thinking"
    ),
    Metric(
        "scores/{name}", "the grader's", "A score that a grader gives besides its reward, mean over responses"
    ),
    # the objective
    Metric(
        "train/{N,H}/advantage_abs",
        "deviations",
        "Mean absolute advantage of the tokens trained, including the bonus",
    ),
    Metric("train/{N,H}/clipfrac_low", "share", "Tokens whose ratio is clipped from below"),
    Metric("train/{N,H}/clipfrac_high", "share", "Tokens whose ratio is clipped from above"),
    Metric("train/{N,H}/reference_kl", "nats", "Mean log ratio to the starting model"),
    Metric("train/{N,H}/tokens_chosen", "share", "Tokens that the algorithm treats specially"),
    Metric("train/{N,H}/bonus_abs", "deviations", "Mean absolute bonus"),
    Metric("train/{N,H}/bonus_clipfrac", "share", "Tokens whose bonus is clamped at |A|/κ"),
    Metric("train/{N,H}/bonus_max", "deviations", "The largest standardised bonus before it is clamped"),
    Metric(
        "train/zero_variance", "share", "Groups whose rewards are all equal, from which nothing can be learnt"
    ),
    Metric("train/weight_{N,H}", "", "Weight of the mode's loss"),
    Metric("train/eta", "", "Weight of the bonus, η, in this step"),
    Metric("train/entropy_coefficient", "", "Weight of entropy in the loss in this step"),
    Metric("train/loss", "", "The loss that was minimised"),
    # learning from rows
    Metric("train/token_accuracy", "share", "Share of tokens to learn that the model finds most likely"),
    Metric(
        "train/{N,H}/loss",
        "nats",
        "Mean negative log-probability of the tokens to learn under the mode's prompt",
    ),
    Metric(
        "{train,valid,eval}/preference_accuracy",
        "share",
        "Pairs whose preferred answer has the higher reward",
    ),
    Metric(
        "{train,valid,eval}/preference_margin",
        "nats",
        "Mean reward of preferred answers minus that of the others",
    ),
    Metric(
        "{train,valid,eval}/{preferred_reward,non_preferred_reward}",
        "nats",
        "Mean of β times an answer's log ratio to the starting model",
    ),
    Metric("valid/loss", "", "The same loss on a few rows of the validation file, different ones each step"),
    Metric("valid/token_accuracy", "share", "Share of their tokens that the model finds most likely"),
    Metric(
        "valid/{N,H}/loss", "nats", "Mean negative log-probability of their tokens under the mode's prompt"
    ),
    Metric("valid/{N,H}/entropy_nats", "nats", "Mean entropy of the next-token distribution over them"),
    Metric("eval/loss", "", "The same loss on all rows of the validation file"),
    Metric("eval/token_accuracy", "share", "Share of their tokens that the model finds most likely"),
    Metric(
        "eval/{N,H}/loss", "nats", "Mean negative log-probability of their tokens under the mode's prompt"
    ),
    # of every run
    Metric("train/grad_norm", "", "Norm of the gradient before it is clipped"),
    Metric("train/lr", "", "Learning rate of the step"),
    Metric("train/samples_generated", "responses", "Responses that the step sampled, including dropped ones"),
    Metric("train/tokens_generated", "tokens", "Tokens that the step sampled"),
    Metric(
        "train/tokens_trained", "tokens", "Tokens of rows trained on; a shared response counts in each mode"
    ),
    Metric(
        "train/tokens_per_second",
        "tokens/s",
        "Tokens sampled, or learnt, per second of training, without evaluation and probes",
    ),
    Metric("train/step_seconds", "s", "The whole step"),
    Metric("train/sampling_rounds", "", "Number of times the step sampled again to replace dropped groups"),
    Metric("train/groups_dropped", "groups", "Groups that the algorithm did not train on"),
    Metric("train/grader_errors", "responses", "Responses that the grader failed on, which are left out"),
    Metric("train/grader_errors/{name}", "responses", "The same by kind of failure"),
    Metric("eval/grader_errors", "responses", "Likewise in the evaluation"),
    Metric("eval/grader_errors/{name}", "responses", "The same by kind of failure"),
    # the modes beside each other
    Metric(
        "cross/ratio_mean/{N_on_H,H_on_N}",
        "",
        "Mean probability ratio where a mode trains on the other's responses",
    ),
    Metric("cross/ratio_p99/{N_on_H,H_on_N}", "", "Its 99th percentile"),
    Metric("cross/ess/{N_on_H,H_on_N}", "share", "Effective sample size of those ratios"),
    Metric(
        "diag/{kl_H_N,kl_N_H,js}/prefix_{N,H}",
        "nats",
        "Divergence of the modes on text sampled by one of them",
    ),
    Metric("diag/hidden_{cos,cka}/{L}", "−1 to 1", "Similarity of the modes' hidden states at a layer"),
    Metric("diag/hidden_{cos,cka}_neutral/{L}", "−1 to 1", "The same" + _NEUTRAL),
    Metric(
        "diag/grad_cos", "−1 to 1", "Cosine of the modes' gradients; below 0 they pull against each other"
    ),
    Metric("diag/grad_cos/{L}", "−1 to 1", "The same for one layer"),
    Metric("diag/grad_cos_bonus", "−1 to 1", "Cosine of the normal mode's gradient with that of the bonus"),
    Metric("diag/grad_bonus_ratio", "", "Norm of the bonus's gradient over that of the reward"),
    Metric("diag/grad_conflict_rate", "share", "Layers in which the modes' gradients oppose each other"),
    Metric(
        "diag/grad_conflict_rate_null", "share", "The same with modes assigned at random, as a chance level"
    ),
    Metric("diag/grad_groups", "groups", "Groups that the gradients were probed on"),
    # validation
    Metric("eval/{N,H}/reward", "0 to 1", "Mean reward on validation items"),
    Metric("eval/{N,H}/graded", "responses", "Number of responses in that mean"),
    Metric("eval/{N,H}/accuracy", "share", "Responses with the reward 1"),
    Metric("eval/{N,H}/length", "tokens", "Mean length of responses"),
    Metric("eval/{N,H}/truncated", "share", "Responses cut off at the limit"),
    Metric("eval/{N,H}/parse_error", "share", "Responses that do not match `response_format`"),
    Metric("eval/{N,H}/entropy_nats", "nats", "Mean token entropy at temperature 1"),
    Metric("eval/{N,H}/entropy_bits", "bits", "The same in bits"),
    Metric("eval/{N,H}/{part}_length", "tokens", "Mean length of answers, or of the thinking before them"),
    Metric("eval/{N,H}/{part}_entropy_nats", "nats", "Mean token entropy within answers, or within thinking"),
    Metric("eval/{N,H}/pass@{k}", "share", "Items for which one of k answers is right"),
    Metric("eval/{N,H}/maj@{k}", "share", "Items for which the majority of k answers is right"),
    Metric("eval/{N,H}/distinct_right@{k}", "answers", "Different right answers among k"),
    Metric(
        "eval/mix/pass@{k}", "share", "Items for which one of k answers is right, half of them from each mode"
    ),
    Metric(
        "eval/mix/distinct_right@{k}",
        "answers",
        "Different right answers among k, half of them from each mode",
    ),
    Metric(
        "eval/only_{N,H}",
        "share",
        "Items that this mode solves and the other does not, with equally many answers",
    ),
    Metric(
        "eval/only_second_draw_{N,H}",
        "share",
        "Items that a second draw from the mode solves and its first does not",
    ),
    Metric(
        "eval/{kl_H_N,kl_N_H,js}/prefix_{N,H}",
        "nats",
        "Divergence of the modes on text sampled by one of them",
    ),
    Metric(
        "eval/{N,H}/{distinct1,distinct2,self_bleu4,embedding_diversity}",
        "0 to 1",
        "Diversity of an item's responses: distinct words and word pairs, 1 − self-BLEU, distance in meaning",
    ),
    Metric(
        "eval/{N,H}/{distinct1,distinct2,self_bleu4,embedding_diversity}_{matched,correct}",
        "0 to 1",
        "The same on equally many responses of the same length, or on such among the right ones",
    ),
    Metric("eval/{N,H}/repetition", "share", "Repeated sequences within a response"),
    # the machine
    Metric(
        "rollout/logprob_gap_mean",
        "nats",
        "Distance of the sampling engine's log-probabilities from the trainer's; if a format is enforced, "
        "what it costs the model's own choice",
    ),
    Metric("rollout/logprob_gap_max", "nats", "The largest such gap"),
    Metric("rollout/importance_clipped", "share", "Tokens whose weight for that gap is capped"),
    Metric(
        "train/rollout_age",
        "steps",
        "Age in steps of the weights that sampled the step's responses, relative to those it trains",
    ),
    Metric("time/ahead", "s", "Time for sampling and grading later steps beside the update"),
    Metric(
        "time/{generate,grade,score,forward_backward,optimizer,sync,divergence,evaluate,checkpoint,diagnostics}",
        "s",
        "Part of the step's time",
    ),
    Metric("time/diagnostics/{name}", "s", "Part of the time for diagnostics"),
    Metric(
        "memory/resident_gib", "GiB", "Resident memory of the trainer and its engine at the end of the step"
    ),
    Metric("memory/gpu_peak_gib", "GiB", "Peak memory reserved by torch on the GPU during the step"),
)
"""In the order of the reference's page."""
