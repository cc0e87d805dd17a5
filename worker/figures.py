"""What a worker counts of its trainers' steps and of its attempts at jobs, for Prometheus.

A trainer opens no port: what it does is in its events, which its worker relays anyway, so the numbers of all
its trainers are in one process and none is counted twice or lost with a trainer. Nothing here has a label by
job: what the API reads of running jobs from the database has (``app.monitoring``).
"""

from prometheus_client import Counter, Histogram

from app.core.counting import COUNTED, LONG_SECONDS
from trainer.spec.events import StepMetrics
from trainer.spec.modes import Mode

_STEPS = Counter("policysplit_steps", "Training steps, including repeated ones", registry=COUNTED)
_STEP_SECONDS = Histogram(
    "policysplit_step_seconds",
    "Seconds per training step",
    buckets=LONG_SECONDS,
    registry=COUNTED,
)
_PHASE_SECONDS = Histogram(
    "policysplit_step_phase_seconds",
    "Seconds per step by phase: generate, grade, score, forward_backward, optimizer, …",
    ["phase"],
    buckets=LONG_SECONDS,
    registry=COUNTED,
)
_TOKENS = Counter(
    "policysplit_step_tokens",
    "Tokens sampled (generated) and trained on (trained) in steps",
    ["what"],
    registry=COUNTED,
)
_REWARDS = Histogram(
    "policysplit_step_reward",
    "Mean training reward per step, by mode",
    ["mode"],
    buckets=(-1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0),
    registry=COUNTED,
)
_RESPONSES = Counter("policysplit_responses", "Training responses by mode", ["mode"], registry=COUNTED)
_GRADER_ERRORS = Counter(
    "policysplit_grader_errors",
    "Training responses that a grader failed on, by grader type and kind of error",
    ["type", "kind"],
    registry=COUNTED,
)
_ATTEMPTS = Counter(
    "policysplit_attempts_ended",
    "Finished attempts at jobs of this worker, by outcome and cause",
    ["outcome", "cause"],
    registry=COUNTED,
)


def count_step(event: StepMetrics) -> None:
    """A step that has become rows."""
    values = event.values
    if "train/step_seconds" in values:
        _STEPS.inc()
        _STEP_SECONDS.observe(values["train/step_seconds"])
    for name, seconds in values.items():
        first, _, phase = name.partition("/")
        # What is below a phase is a part of it.
        if first == "time" and "/" not in phase:
            _PHASE_SECONDS.labels(phase).observe(seconds)
    for what in ("generated", "trained"):
        _TOKENS.labels(what).inc(values.get(f"train/tokens_{what}", 0))
    for mode in Mode:
        reward = values.get(f"train/{mode.label}/reward")
        if reward is not None:
            _REWARDS.labels(mode.value).observe(reward)
    for grading in event.train:
        _RESPONSES.labels(grading.mode.value).inc(grading.responses)
        # The first is the run's grader, which has what its parts have.
        for whole in grading.graders[:1]:
            for kind, count in whole.errors.items():
                _GRADER_ERRORS.labels(whole.type, kind).inc(count)


def count_attempt(outcome: str, cause: str) -> None:
    """An attempt has ended."""
    _ATTEMPTS.labels(outcome, cause).inc()
