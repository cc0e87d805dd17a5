"""A metrics event has the names and the nesting of the hosted API's documented example."""

import json
from typing import Any

import pytest

from trainer.spec.events import GraderUse, Grading, StepMetrics
from trainer.spec.modes import Mode
from worker.jobs.metrics_event import metrics_data

#: The keys of the example in the hosted guide to reinforcement fine-tuning, by the path of their object.
HOSTED = {
    "": "step usage errors scores timing total_steps train_mean_reward reasoning_tokens_mean "
    "completion_tokens_mean full_valid_mean_reward mean_unresponsive_rewards model_graders_token_usage "
    "full_valid_mean_parse_error valid_reasoning_tokens_mean",
    "usage": "graders samples",
    "usage.graders": "name type model train_prompt_tokens_mean valid_prompt_tokens_mean "
    "train_prompt_tokens_count valid_prompt_tokens_count train_completion_tokens_mean "
    "valid_completion_tokens_mean train_completion_tokens_count valid_completion_tokens_count",
    "usage.samples": "train_reasoning_tokens_mean valid_reasoning_tokens_mean train_reasoning_tokens_count "
    "valid_reasoning_tokens_count",
    "errors": "graders",
    "errors.graders": "name type train_other_error_mean valid_other_error_mean train_other_error_count "
    "valid_other_error_count train_sample_parse_error_mean valid_sample_parse_error_mean "
    "train_sample_parse_error_count valid_sample_parse_error_count train_invalid_variable_error_mean "
    "valid_invalid_variable_error_mean train_invalid_variable_error_count valid_invalid_variable_error_count",
    "scores": "graders train_reward_mean valid_reward_mean",
    "scores.graders": "name type train_reward_mean valid_reward_mean",
    "timing": "step graders",
    "timing.step": "eval sampling training full_iteration",
    "timing.graders": "name type train_execution_latency_mean valid_execution_latency_mean",
    "model_graders_token_usage.judge-1": "eval_cached_tokens eval_prompt_tokens train_cached_tokens "
    "train_prompt_tokens eval_completion_tokens train_completion_tokens",
}


def use(name: str, kind: str, rewards: float, graded: int = 4, **changes: Any) -> GraderUse:
    fields: dict[str, Any] = {"errors": {}, "seconds": 2.0, "tokens": {}}
    return GraderUse(name=name, type=kind, graded=graded, rewards=rewards, **(fields | changes))


def graded(mode: Mode, *uses: GraderUse, thoughts: int = 0) -> Grading:
    return Grading(mode=mode, responses=4, reasoning_tokens=thoughts, graders=list(uses))


def tokens(prompt: int, completion: int, **more: int) -> dict[str, dict[str, int]]:
    return {"judge-1": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


def whole_and_parts(rewards: float, used: dict[str, dict[str, int]], **changes: Any) -> list[GraderUse]:
    return [
        use("both", "multi", rewards, tokens=used, **changes),
        use("judge", "score_model", 2 * rewards, tokens=used, **changes),
        use("exact", "string_check", 0.0, seconds=0.4),
    ]


EVENT = StepMetrics(
    step=10,
    total_steps=20,
    values={
        "train/N/reward": 0.25,
        "train/H/reward": 0.75,
        "train/N/length": 30.0,
        "eval/N/reward": 0.5,
        "eval/H/reward": 0.1,
        "eval/N/parse_error": 0.0,
        "train/samples_generated": 8.0,
        "train/grader_errors/unresponsive_reward_error": 2.0,
    },
    train=[
        graded(Mode.NORMAL, *whole_and_parts(1.0, tokens(40, 8, cached_tokens=5)), thoughts=100),
        graded(
            Mode.HIGH_ENTROPY,
            *whole_and_parts(1.5, tokens(60, 12), graded=2, errors={"unresponsive_reward_error": 2}),
            thoughts=60,
        ),
    ],
    valid=[
        graded(Mode.NORMAL, *whole_and_parts(2.0, tokens(20, 4)), thoughts=8),
        graded(Mode.HIGH_ENTROPY, *whole_and_parts(0.4, tokens(20, 4))),
    ],
)
DATA: Any = json.loads(json.dumps(metrics_data(EVENT)))


def at(path: str) -> Any:
    value = DATA
    for key in path.split(".") if path else ():
        value = value[key]
    return value


@pytest.mark.parametrize("path", HOSTED)
def test_every_hosted_name_is_there(path: str):
    for one in objects if isinstance(objects := at(path), list) else [objects]:
        assert not set(HOSTED[path].split()) - one.keys()
    assert objects


def test_rewards_are_of_the_modes_as_at_the_top():
    assert DATA["scores"] == {
        "graders": [
            # (1 / 4 + 1.5 / 2) / 2, and the normal mode's alone.
            {"name": "both", "type": "multi", "train_reward_mean": 0.5, "valid_reward_mean": 0.5},
            {"name": "judge", "type": "score_model", "train_reward_mean": 1.0, "valid_reward_mean": 1.0},
            {"name": "exact", "type": "string_check", "train_reward_mean": 0.0, "valid_reward_mean": 0.0},
        ],
        "train_reward_mean": 0.5,
        "valid_reward_mean": 0.5,
    }
    assert DATA["mean_unresponsive_rewards"] == 0.25


def test_tokens_errors_and_seconds_are_of_all_responses():
    (judge,) = DATA["usage"]["graders"]
    assert (judge["name"], judge["type"], judge["model"]) == ("judge", "score_model", "judge-1")
    assert (judge["train_prompt_tokens_count"], judge["train_prompt_tokens_mean"]) == (100, 12.5)
    assert (judge["valid_completion_tokens_count"], judge["valid_completion_tokens_mean"]) == (8, 1.0)
    assert DATA["model_graders_token_usage"] == {
        "judge-1": {
            "train_cached_tokens": 5,
            "eval_cached_tokens": 0,
            "train_prompt_tokens": 100,
            "eval_prompt_tokens": 40,
            "train_completion_tokens": 20,
            "eval_completion_tokens": 8,
        }
    }
    _, judge, exact = DATA["errors"]["graders"]
    count, share = "train_unresponsive_reward_error_count", "train_unresponsive_reward_error_mean"
    assert (judge[count], judge[share]) == (2, 0.25)
    assert judge["valid_model_grader_server_error_count"] == 0
    assert count not in exact and exact["train_other_error_count"] == 0
    latencies = [one["train_execution_latency_mean"] for one in DATA["timing"]["graders"]]
    assert latencies == [0.5, 0.5, 0.1]
    assert DATA["reasoning_tokens_mean"] == 20.0
    assert DATA["valid_reasoning_tokens_mean"] == 1.0


def test_what_was_not_done_is_null():
    data: Any = metrics_data(EVENT.model_copy(update={"valid": []}))
    assert data["scores"]["graders"][0]["valid_reward_mean"] is None
    assert data["usage"]["graders"][0]["valid_prompt_tokens_count"] is None
    assert data["errors"]["graders"][0]["valid_other_error_mean"] is None
    assert data["timing"]["graders"][0]["valid_execution_latency_mean"] is None
    assert data["valid_reasoning_tokens_mean"] is None
    nothing: Any = metrics_data(StepMetrics(step=1, total_steps=2, values={}))
    assert nothing["scores"]["graders"] == nothing["usage"]["graders"] == []
