"""What graders did in a step, in the shape of OpenAI's reinforcement metrics events: an entry each.

Rewards are of the modes as in ``worker.jobs.metrics_event``; errors, seconds and tokens are of all responses,
for all of them cost. A number of something that was not done, such as an evaluation in most steps, is null.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from trainer.spec.events import GraderUse, Grading, StepMetrics
from trainer.spec.modes import Mode

Entry = dict[str, object]
#: Kinds of errors that any grader may have, and those of some types: told of where there was none, too.
_KINDS = ("sample_parse_error", "invalid_variable_error", "other_error")
_OF_JUDGES = ("model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error")
_KINDS_OF = {
    "python": ("python_grader_server_error", "python_grader_runtime_error"),
    "score_model": _OF_JUDGES,
    "label_model": _OF_JUDGES,
    "creative_writing": _OF_JUDGES,
    "multi": ("formula_parse_error",),
}
_TOKENS = ("prompt_tokens", "completion_tokens")


def scores_by_grader(event: StepMetrics) -> Iterator[Entry]:
    """Mean rewards."""
    for entry, of_train, of_valid in _graders(event):
        normal = [(grading, use) for grading, use in of_valid if grading.mode is Mode.NORMAL]
        yield entry | {"train_reward_mean": _reward(of_train), "valid_reward_mean": _reward(normal)}


def errors_by_grader(event: StepMetrics) -> Iterator[Entry]:
    """Each kind of error: how many, and their share of the responses."""
    for entry, *phases in _graders(event):
        uses = [use for phase in phases for _, use in phase]
        kinds = dict.fromkeys(
            (*_KINDS, *_KINDS_OF.get(uses[0].type, ()), *(k for u in uses for k in u.errors))
        )
        for kind in kinds:
            for prefix, phase in zip(("train", "valid"), phases, strict=True):
                count = sum(use.errors.get(kind, 0) for _, use in phase) if phase else None
                entry |= _mean_and_count(f"{prefix}_{kind}", count, _responses(phase))
        yield entry


def seconds_by_grader(event: StepMetrics) -> Iterator[Entry]:
    """Mean seconds per response."""
    for entry, *phases in _graders(event):
        for prefix, phase in zip(("train", "valid"), phases, strict=True):
            seconds = sum(use.seconds for _, use in phase)
            entry[f"{prefix}_execution_latency_mean"] = _over(seconds, _responses(phase))
        yield entry


def tokens_by_grader(event: StepMetrics) -> Iterator[Entry]:
    """For each grader that queries models, and each model: tokens read and written."""
    for entry, *phases in _graders(event):
        if entry["type"] == "multi":
            continue  # it has what its parts have
        for model in dict.fromkeys(model for phase in phases for _, use in phase for model in use.tokens):
            of_model = entry | {"model": model}
            for what in _TOKENS:
                for prefix, phase in zip(("train", "valid"), phases, strict=True):
                    count = sum(use.tokens.get(model, {}).get(what, 0) for _, use in phase) if phase else None
                    of_model |= _mean_and_count(f"{prefix}_{what}", count, _responses(phase))
            yield of_model


def tokens_by_model(event: StepMetrics) -> dict[str, Counter[str]]:
    """Tokens read and written by each judge model in training and evaluation, over all graders."""
    found: dict[str, Counter[str]] = {}
    for prefix, gradings in (("train", event.train), ("eval", event.valid)):
        # The first is the run's grader: it has what its parts have.
        for whole in (grading.graders[0] for grading in gradings if grading.graders):
            for model, counts in whole.tokens.items():
                names = [f"{p}_{what}" for what in ("cached_tokens", *_TOKENS) for p in ("train", "eval")]
                of_model = found.setdefault(model, Counter(dict.fromkeys(names, 0)))
                for what in ("cached_tokens", *_TOKENS):
                    of_model[f"{prefix}_{what}"] += counts.get(what, 0)
    return found


def reasoning_tokens(event: StepMetrics) -> Entry:
    """Tokens of thoughts, over all responses."""
    entry: Entry = {}
    for prefix, gradings in (("train", event.train), ("valid", event.valid)):
        count = sum(grading.reasoning_tokens for grading in gradings) if gradings else None
        responses = sum(grading.responses for grading in gradings)
        entry |= _mean_and_count(f"{prefix}_reasoning_tokens", count, responses)
    return entry


_Uses = Sequence[tuple[Grading, GraderUse]]


def _graders(event: StepMetrics) -> Iterator[tuple[Entry, _Uses, _Uses]]:
    """Of each grader its name and type, and what it did in training and in the evaluation, by mode."""
    both = [*event.train, *event.valid]
    for name, kind in dict.fromkeys((use.name, use.type) for grading in both for use in grading.graders):
        of_train, of_valid = (
            [(one, use) for one in gradings for use in one.graders if (use.name, use.type) == (name, kind)]
            for gradings in (event.train, event.valid)
        )
        yield {"name": name, "type": kind}, of_train, of_valid


def _reward(uses: _Uses) -> float | None:
    """The mean of the modes' means."""
    means = [use.rewards / use.graded for _, use in uses if use.graded]
    return sum(means) / len(means) if means else None


def _responses(uses: _Uses) -> int:
    return sum(grading.responses for grading, _ in uses)


def _mean_and_count(name: str, count: int | None, responses: int) -> Entry:
    return {f"{name}_mean": _over(count, responses), f"{name}_count": count}


def _over(number: float | None, responses: int) -> float | None:
    return number / responses if number is not None and responses else None
