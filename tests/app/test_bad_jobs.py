"""Every bad job gets an error that names the field, the value and what would be accepted."""

from typing import Any

import httpx
import openai
import pytest

from tests.fixtures.api import GRADER, Api, on_sqlite, sums

RL = "method.reinforcement"


def body(api: Api, file: str | None, change: dict[str, Any], **reinforcement: Any) -> dict[str, Any]:
    """A good request with changes."""
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER} | reinforcement}
    good = {"model": api.model, "training_file": file, "method": method}
    return good | change


def grader(**change: Any) -> dict[str, Any]:
    return {"grader": GRADER | change}


#: (change of the body, change of method.reinforcement, param, what the message has)
BAD: list[tuple[dict[str, Any], dict[str, Any], str | None, str]] = [
    (
        {"modle": "x"},
        {},
        "modle",
        "Unknown parameter: 'modle'. Did you mean 'model'? Accepted here: model, method",
    ),
    (
        {},
        {"evaluation": {"embedding_model": "tiny", "samples_per_item": 2}},
        f"{RL}.evaluation.embedding_model",
        "\"tiny\" is not a text encoder. There is none yet; 'policysplit models pull all-MiniLM-L6-v2'",
    ),
    ({"resources": {"gpu": 2}}, {}, "resources.gpu", "Did you mean 'gpus'?"),
    ({"resources": {"gpus": 0}}, {}, "resources.gpus", "0. Input should be greater than or equal to 1"),
    ({"resources": {"gpus": 3, "nodes": 2}}, {}, "resources.nodes", "gpus is 3: give a divisor"),
    (
        {"resources": {"gpus": 4, "nodes": 2, "rollout_gpus": 2}},
        {},
        "resources.rollout_gpus",
        "2, but nodes is 2: engines of several GPUs",
    ),
    (
        {"resources": {"gpus": 4, "nodes": 2, "tensor_parallel": 2}},
        {},
        "resources.tensor_parallel",
        "give nodes 1, or tensor_parallel 1",
    ),
    ({"resources": {"gpus": 2, "rollout_gpus": 2}}, {}, "resources.rollout_gpus", "give at most 1"),
    (
        {"resources": {"gpus": 2, "rollout_gpus": 1}},
        {"rollout": {"engine": "transformers"}},
        "resources.rollout_gpus",
        "give 'vllm'",
    ),
    (
        {"resources": {"gpus": 4, "tensor_parallel": 3}},
        {},
        "resources.tensor_parallel",
        "give a divisor of 4",
    ),
    ({"resources": {"gpus": 2, "min_gpus": 3}}, {}, "resources.min_gpus", "a number from 1 to 2"),
    ({"resources": {"gpus": 2, "launcher": "local"}}, {}, "resources.launcher", "give 'torchrun'"),
    ({}, {"algoritm": {}}, f"{RL}.algoritm", "Did you mean 'algorithm'?"),
    ({}, {"hyperparameters": {"lr": 1}}, f"{RL}.hyperparameters.lr", "Accepted here: batch_size"),
    (
        {},
        {"algorithm": {"type": "policy_split", "beta": 1}},
        f"{RL}.algorithm.beta",
        "rollout_importance_cap, clip_low",
    ),
    ({}, {"algorithm": {"type": "ppo"}}, f"{RL}.algorithm", "'policy_split', 'grpo'"),
    ({}, {"algorithm": {"eta": 1}}, f"{RL}.algorithm", "needs the key 'type'"),
    (
        {},
        {"algorithm": {"type": "policy_split", "eta": "x"}},
        f"{RL}.algorithm.eta",
        'eta\': "x". Input should be',
    ),
    (
        {},
        {"hyperparameters": {"batch_size": 2.5}},
        f"{RL}.hyperparameters.batch_size",
        "2.5. Input should be",
    ),
    (
        {},
        {"hyperparameters": {"batch_size": "big"}},
        f"{RL}.hyperparameters.batch_size",
        "or Input should be 'auto'",
    ),
    (
        {},
        {"hyperparameters": {"n_epochs": 0}},
        f"{RL}.hyperparameters.n_epochs",
        "greater than or equal to 1",
    ),
    (
        {},
        {"rollout": {"samples_per_prompt": 7}},
        f"{RL}.rollout.samples_per_prompt",
        "is 7, but policy_split",
    ),
    (
        {},
        {"rollout": {"engine": "sglang"}},
        f"{RL}.rollout.engine",
        "'transformers' or 'vllm'",
    ),
    (
        {},
        {"rollout": {"engine": "transformers", "vllm": {"sleep": False}}},
        f"{RL}.rollout",
        "rollout.engine is 'transformers'",
    ),
    (
        {},
        {"rollout": {"engine": "vllm", "temperature": 0.001}},
        RL,
        "rollout.temperature is 0.001, which vLLM would raise to 0.01",
    ),
    (
        {},
        {"hyperparameters": {"compute_multiplier": 0.3}},
        f"{RL}.hyperparameters.compute_multiplier",
        "it makes 2.4 samples",
    ),
    (
        {},
        {"hyperparameters": {"compute_multiplier": 0.375}},
        f"{RL}.hyperparameters.compute_multiplier",
        "give an even number",
    ),
    (
        {},
        {"algorithm": {"type": "policy_split", "high_entropy_samples": 9}},
        f"{RL}.algorithm.high_entropy_samples",
        "from 0 to 8",
    ),
    ({}, {"hyperparameters": {"batch_size": 9}}, f"{RL}.hyperparameters.batch_size", "has 8 rows"),
    ({}, {"rollout": {"prompts_per_step": 9}}, f"{RL}.rollout.prompts_per_step", "from 1 to 8"),
    (
        {},
        {"hyperparameters": {"batch_size": 4}, "rollout": {"prompts_per_step": 2}},
        f"{RL}.hyperparameters.batch_size",
        f"(4) and '{RL}.rollout.prompts_per_step' (2)",
    ),
    (
        {},
        {"hyperparameters": {"learning_rate_multiplier": 2}, "optimizer": {"learning_rate": 1e-5}},
        f"{RL}.hyperparameters.learning_rate_multiplier",
        "contradict each other",
    ),
    (
        {},
        {"hyperparameters": {"n_epochs": 3}, "budget": {"steps": 5}},
        f"{RL}.hyperparameters.n_epochs",
        "which makes 3 steps",
    ),
    ({}, {"hyperparameters": {"eval_interval": 5}}, f"{RL}.hyperparameters.eval_interval", "validation_file"),
    ({"model": "gpt-9"}, {}, "model", 'The model "gpt-9" does not exist. Known models: tiny'),
    # No folder can be called that: the system would say so with an error of its own.
    ({"model": "0" * 512}, {}, "model", "does not exist. Known models: tiny"),
    ({"model": "../tiny"}, {}, "model", "Known models: tiny"),
    ({"model": "ft:tiny:org::abc"}, {}, "model", "is not a finished model. Known models: tiny"),
    ({"model": "ft:tiny"}, {}, "model", "expected ft:BASE:ORGANIZATION"),
    ({"model": "ft:tiny:org::abc:high-entropy"}, {}, "model", "Give 'ft:tiny:org::abc'"),
    ({"model": None}, {}, "model", "null. Input should be a valid string"),
    ({"training_file": None}, {}, "training_file", "neither is given"),
    ({"training_file": "file-nope"}, {}, "training_file", '"file-nope". The file does not exist'),
    ({"environment": {"task": "chain_sum"}}, {}, "training_file", "both are given"),
    ({"validation_file": "file-nope"}, {}, "validation_file", "The file does not exist"),
    (
        {"training_file": None, "environment": {"task": "chain_sun"}},
        {},
        "environment.task",
        "first: chain_sum",
    ),
    (
        {"training_file": None, "environment": {"task": "chain_sum", "parameters": {"max_term": 3}}},
        {},
        "environment.parameters.max_term",
        "accepts: min_terms, max_terms",
    ),
    (
        {"training_file": None, "environment": {"task": "chain_sum", "parameters": {"min_terms": 9}}},
        {},
        "environment.parameters",
        "max_terms must be >= min_terms",
    ),
    (
        {"training_file": None, "environment": {"task": "chain_sum"}},
        {"grader": {"type": "environment", "task": "leg_counting"}},
        f"{RL}.grader.task",
        "Give 'chain_sum'",
    ),
    (
        {"training_file": None, "environment": {"task": "chain_sum"}},
        grader(reference="{{ item.level }}"),
        f"{RL}.grader",
        "item.question, item.answer, item.metadata",
    ),
    (
        {},
        {"grader": {"type": "environment", "task": "nope"}},
        f"{RL}.grader.task",
        "not a reasoning-gym task",
    ),
    ({}, {"grader": {"type": "magic"}}, f"{RL}.grader", "'string_check', 'text_similarity'"),
    ({}, grader(operation="equals"), f"{RL}.grader.operation", "'eq', 'ne', 'like' or 'ilike'"),
    ({}, grader(reference="{{ item.level }}"), "training_file", "'item.level', which line 1 of"),
    ({}, grader(reference="{{ item.hint }}"), "training_file", "'item.hint', which line 3 of"),
    ({}, grader(reference="{{ items.answer }}"), f"{RL}.grader.reference", "variable 'items.answer'"),
    ({}, grader(input="{{ sample.text }}"), f"{RL}.grader.input", "sample.output_text"),
    ({}, grader(input="{{ sample.output_text }"), f"{RL}.grader.input", "is not a valid variable"),
    ({}, {"lora": {"dropout": 0.1}}, f"{RL}.lora.dropout", "give 0"),
    ({}, {"lora": {"target_modules": []}}, f"{RL}.lora.target_modules", "at least 1 item"),
    ({}, {"high_entropy_placement": "end"}, f"{RL}.high_entropy_placement", "'system' or 'user_prefix'"),
    (
        {},
        {"chat_template_kwargs": {"tools": []}},
        f"{RL}.chat_template_kwargs",
        "is set by the trainer itself",
    ),
    ({"suffix": "a b"}, {}, "suffix", '"a b"'),
    ({"suffix": "a" * 65}, {}, "suffix", "at most 64"),
    ({"seed": -1}, {}, "seed", "greater than or equal to 0"),
    ({"seed": 2**31}, {}, "seed", "less than"),
    ({"metadata": {str(n): "" for n in range(17)}}, {}, "metadata", "at most 16"),
    ({"metadata": {"k": "v" * 513}}, {}, "metadata.k", "at most 512"),
    ({"metadata": {"k" * 65: "v"}}, {}, "metadata." + "k" * 65, "at most 64"),
    ({"metadata": {"k": 5}}, {}, "metadata.k", "5. Input should be a valid string"),
    ({"integrations": [{"type": "wandb"}]}, {}, "integrations.0.wandb", "Missing required parameter"),
    ({"integrations": [{"type": "comet"}]}, {}, "integrations.0", "'wandb', 'mlflow', 'tensorboard'"),
    ({"integrations": [{"type": "tensorboard"}] * 2}, {}, "integrations", "give each type once"),
    (
        {"integrations": [{"type": "wandb", "wandb": {"project": "x", "api_key": "s"}}]},
        {},
        "integrations.0.wandb.api_key",
        "Accepted here: project, name, entity, tags",
    ),
    ({"method": {"type": "ppo"}}, {}, "method.type", "'reinforcement'"),
    ({"method": {"type": "reinforcement"}}, {}, "method", "needs the key 'reinforcement' with a grader"),
    ({"hyperparameters": {"beta": 1}}, {}, "hyperparameters.beta", "Accepted here: batch_size"),
    (
        {"hyperparameters": {"n_epochs": 1}},
        {"hyperparameters": {"n_epochs": 2}},
        None,
        "(1) and 'method.reinforcement.hyperparameters.n_epochs' (2) contradict each other",
    ),
    ({"method": {"type": "dpo", "dpo": {}}}, {}, "training_file", "do not suit a dpo job. Line 1"),
    ({"method": None}, {}, "training_file", "do not suit a supervised job. Line 1"),
]


@on_sqlite
def test_bad_jobs(client: openai.OpenAI, api: Api):
    rows = [row | {"hint": 1} if n < 2 else row for n, row in enumerate(sums(8))]
    file = api.upload(client, rows)
    assert httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body(api, file, {})).status_code == 200
    wrong = []
    for change, reinforcement, param, says in BAD:
        answer = httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body(api, file, change, **reinforcement))
        error = answer.json().get("error", {})
        if answer.status_code != 400 or error["param"] != param or says not in error["message"]:
            wrong.append((param, says, answer.status_code, error))
    assert wrong == []
    assert len(client.fine_tuning.jobs.list().data) == 1


BODIES: list[tuple[bytes, str]] = [
    (b"", "there is nothing in it"),
    (b"{", "malformed JSON"),
    (b"[]", "Input should be"),
    (b'{"model": NaN}', "NaN"),
    (b'{"model": 1e999}', "too large"),
    (b'{"model": "\\ud800"}', "surrogate"),
    (b'{"model": "\\u0000"}', "U+0000"),
    (b'{"model": "a", "model": "b"}', "'model' appears twice"),
    (b"[" * 100_000, "nested"),
    (b'{"model": "\xff"}', "UTF-8"),
]


@on_sqlite
def test_bad_bodies(api: Api):
    url, json = f"{api.url}/v1/fine_tuning/jobs", {"content-type": "application/json"}
    for content, says in BODIES:
        answer = httpx.post(url, content=content, headers=json)
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]
    assert httpx.post(url, content=b" " * (5 << 20), headers=json).status_code == 413
    answer = httpx.post(url, content=b"model=x", headers={"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]
    answer = httpx.post(url, json={}, headers={"idempotency-key": "k" * 256})
    assert answer.status_code == 400


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_odd_urls_are_never_our_fault(api: Api):
    jobs = "/v1/fine_tuning/jobs"
    for method, path, status in [
        ("GET", "/v1/nothing", 404),
        ("PUT", jobs, 405),
        ("GET", f"{jobs}?limit=0", 400),
        ("GET", f"{jobs}?limit=x", 400),
        ("GET", f"{jobs}?limt=5", 400),
        ("GET", f"{jobs}?after=nope", 400),
        ("GET", f"{jobs}?metadata[a=b", 400),
        ("GET", f"{jobs}?metadata=x", 400),
        ("GET", f"{jobs}?metadata[%00]=b", 400),
        ("GET", f"{jobs}?metadata[%ED%A0%80]=b", 200),
        ("GET", f"{jobs}/%00", 400),
        ("GET", f"{jobs}/%FF", 404),
        ("GET", f"{jobs}/{'a' * 5000}", 404),
        ("GET", f"{jobs}/nope/events", 404),
        ("GET", f"{jobs}/nope/metrics.csv", 404),
        ("GET", f"{jobs}/nope/rollouts/99999999999999999999999", 404),
        ("GET", "/v1/files?limit=10001", 400),
        ("GET", "/v1/files?order=up", 400),
        ("DELETE", "/v1/files/nope", 404),
    ]:
        answer = httpx.request(method, api.url + path)
        assert answer.status_code == status, (method, path, answer.text)
        if status != 200:
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@on_sqlite
def test_what_is_allowed_at_a_path_that_looks_like_another(api: Api):
    for path, allowed in (
        ("fine_tuning/jobs/validate", "POST"),
        ("fine_tuning/jobs/estimate", "POST"),
        ("fine_tuning/jobs/ftjob-1", "DELETE, GET, POST"),
        ("models/ft:a:b::c", "DELETE, GET"),
        ("models/pull", "GET, POST"),
        ("models/pull/team/tiny", "GET"),
        ("models/available/team/tiny", "GET"),
    ):
        answer = httpx.put(f"{api.url}/v1/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
