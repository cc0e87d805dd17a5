"""Experiments that cannot be made: what is told of them, with nothing stored."""

import httpx

from tests.fixtures.api import GRADER, on_sqlite
from tests.fixtures.experiments import ENVIRONMENT, EXPERIMENTS, definition

BAD = {
    "no such arm": (
        {"arms": ["policy_split", "ppo"]},
        "'ppo' is not an arm; known ones:",
        "arms.1",
    ),
    "arms twice": (
        {"arms": ["grpo", "grpo"]},
        "has 'grpo' twice",
        "arms",
    ),
    "seeds twice": (
        {"seeds": [1, 1]},
        "has '1' twice",
        "seeds",
    ),
    "metric": (
        {"metric": "loss"},
        "give accuracy, reward, pass@K or distinct_right@K",
        "metric",
    ),
    "method": (
        {"compare": {"method": "dapo"}},
        "compare names the arm 'dapo'",
        "compare",
    ),
    "the method against itself": (
        {"compare": {"method": "gspo", "against": "gspo"}},
        "compare has 'gspo' both as the method and among those it is compared with",
        "compare",
    ),
    "both": (
        {"arms": ["grpo", {"name": "x", "ablation": "grpo", "algorithm": {"type": "grpo"}}]},
        "give one of",
        "arms.1",
    ),
    "unknown key": (
        {"colour": "red"},
        "Unknown parameter: 'colour'",
        "colour",
    ),
    "freeze": (
        {"arms": ["grpo", "freeze_loss@21"]},
        "a step from 0 to 20",
        "arms.1",
    ),
    "arm's settings": (
        {"arms": ["grpo", {"name": "wide", "reinforcement": {"rollout": {"samples_per_prompt": 1}}}]},
        "Arm 'wide' on task 'chain': Invalid value for 'method.reinforcement.rollout.samples_per_prompt': 1",
        "arms.1.reinforcement.rollout.samples_per_prompt",
    ),
    "odd group": (
        {"reinforcement": {"grader": GRADER, "rollout": {"samples_per_prompt": 5}}},
        "Arm 'policy_split' on task 'chain': ",
        "reinforcement.rollout.samples_per_prompt",
    ),
    "task": (
        {"tasks": [{"name": "t", "environment": ENVIRONMENT | {"task": "chain_som"}}]},
        "chain_sum",
        "tasks.0.environment.task",
    ),
    "no validation": (
        {"tasks": [{"name": "t", "training_file": "file-x"}]},
        "has no validation data",
        "tasks.0.validation_file",
    ),
    "too few items": (
        {
            "tasks": [
                {
                    "name": "t",
                    "environment": ENVIRONMENT,
                    "validation_environment": ENVIRONMENT | {"size": 31},
                }
            ]
        },
        "has 31 validation items, but the split takes 8 for dev and 24 for test",
        "split",
    ),
    "model": (
        {"model": "large"},
        "large",
        "model",
    ),
    "unknown answers": (
        {"metric": "distinct_right@8", "reinforcement": {"grader": GRADER | {"operation": "ilike"}}},
        "with answer(sample, item), or a multi with one of these, or give evaluation.embedding_model",
        "metric",
    ),
    "too many": (
        {"seeds": list(range(1000)), "arms": ["grpo"] + [f"freeze_loss@{n}" for n in range(19)]},
        "more than",
        "seeds",
    ),
}


@on_sqlite
def test_bad_requests_are_told_what_would_be_accepted(http: httpx.Client):
    for name, (changes, words, param) in BAD.items():
        answer = http.post(EXPERIMENTS, json=definition(**changes))
        assert answer.status_code == 400, (name, answer.text)
        assert words in answer.json()["error"]["message"], (name, answer.text)
        assert answer.json()["error"]["param"] == param, (name, answer.text)
        checked = http.post(f"{EXPERIMENTS}/validate", json=definition(**changes))
        assert (checked.status_code, checked.json()) == (400, answer.json()), name
    assert http.get(EXPERIMENTS).json()["data"] == []
    assert http.get(f"{EXPERIMENTS}/exp_none").status_code == 404
    assert http.get(f"{EXPERIMENTS}/exp_none/report").status_code == 404
