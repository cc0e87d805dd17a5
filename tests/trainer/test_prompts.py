"""What can be known of the data before training is told before training, with the rows' lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.models import CHATML, build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec
from trainer.api import train
from trainer.data.items import load_items
from trainer.errors import InvalidSpec
from trainer.evaluation.prompts import prompt_room
from trainer.spec.algorithm import Grpo
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EvaluationOutcomes, MessageEvent, Rollouts, StepMetrics
from trainer.spec.run import DiagnosticsSpec, RolloutSpec, RunSpec

LIMIT = 120
SHORT, LONG = "short", "x" * LIMIT


def rows(path: Path, *contents: str) -> JsonlData:
    """A row a content, with an empty line before the third."""
    lines = [
        json.dumps({"messages": [{"role": "user", "content": text}], "letter": "a"}) for text in contents
    ]
    lines.insert(2, "")
    path.write_text("\n".join(lines) + "\n")
    return JsonlData(path=str(path))


def spec_of(model: Path, tmp_path: Path, **changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "algorithm": Grpo(),
        "validation_data": None,
        "training_data": rows(tmp_path / "rows.jsonl", SHORT, LONG, SHORT, LONG, SHORT),
        "rollout": RolloutSpec(
            prompts_per_step=3, samples_per_prompt=2, max_prompt_tokens=LIMIT, max_response_tokens=4
        ),
        "diagnostics": DiagnosticsSpec(interval=0),
        "total_steps": 2,
    }
    return tiny_spec(model, tmp_path / "unused.jsonl", **(fields | changes))


def test_overlong_prompts_are_named_by_line_before_the_first_step(tiny_model: Path, tmp_path: Path):
    spec = spec_of(tiny_model, tmp_path)
    told = r"2 of 5 prompts of training_data have more than 120 tokens.*line 2 \(\d+ tokens\); line 5 \("
    with pytest.raises(InvalidSpec, match=told) as caught:
        train(spec, tmp_path / "run")
    assert caught.value.param == "rollout.max_prompt_tokens"
    assert "overlong_prompts to 'drop'" in str(caught.value)
    assert not [e for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics)]


def test_of_validation_data_too(tiny_model: Path, tmp_path: Path):
    spec = spec_of(
        tiny_model,
        tmp_path,
        training_data=rows(tmp_path / "short.jsonl", *[SHORT] * 4),
        validation_data=rows(tmp_path / "long.jsonl", SHORT, SHORT, SHORT, LONG),
        evaluation=EvaluationSpec(max_items=1),
    )
    with pytest.raises(InvalidSpec, match=r"1 of 4 prompts of validation_data.*line 5 \("):
        train(spec, tmp_path / "run")


def test_dropped_rows_are_told_and_the_others_keep_their_places(tiny_model: Path, tmp_path: Path):
    """Also in the outcomes: runs that dropped other rows are still compared item by item."""
    spec = spec_of(
        tiny_model,
        tmp_path,
        overlong_prompts="drop",
        validation_data=rows(tmp_path / "validation.jsonl", LONG, SHORT, LONG),
        evaluation=EvaluationSpec(max_items=3),
    )
    assert train(spec, tmp_path / "run").finished
    events = events_of(tmp_path / "run")
    told = [
        e.data["overlong_prompts"]
        for e in events
        if isinstance(e, MessageEvent) and "overlong_prompts" in e.data
    ]
    assert [(one["param"], one["dropped"], one["of"], one["lines"]) for one in told] == [
        ("training_data", 2, 5, [2, 5]),
        ("validation_data", 2, 3, [1, 4]),
    ]
    trained = {r.item for e in events if isinstance(e, Rollouts) for r in e.rollouts}
    assert trained == {0, 2, 4}
    (outcomes,) = [e.modes for e in events if isinstance(e, EvaluationOutcomes)]
    assert outcomes["N"].graded == [0, 1, 0]
    assert outcomes["N"].reward[0] is None


def test_nothing_left_is_refused(tiny_model: Path, tmp_path: Path):
    data = rows(tmp_path / "long.jsonl", LONG, LONG)
    with pytest.raises(InvalidSpec, match="None is left"):
        train(spec_of(tiny_model, tmp_path, overlong_prompts="drop", training_data=data), tmp_path / "run")


def test_only_the_modes_that_the_run_uses_count(tiny_model: Path, tmp_path: Path):
    """The high-entropy prompt alone is longer than the limit."""
    data = rows(tmp_path / "short.jsonl", SHORT, SHORT, SHORT)
    one_mode = spec_of(tiny_model, tmp_path, training_data=data, total_steps=1)
    assert train(one_mode, tmp_path / "grpo").finished
    two_modes = one_mode.model_copy(update={"algorithm": tiny_spec(tiny_model, tmp_path / "x").algorithm})
    with pytest.raises(InvalidSpec, match=r"3 of 3 .*line 1 \(\d+ tokens in high-entropy mode\)"):
        train(two_modes, tmp_path / "split")


def test_prompt_and_response_stay_in_the_context(tiny_model: Path, tmp_path: Path):
    """The tiny model has 2,048 positions."""
    policy = load_tiny_policy(tiny_model)
    assert policy.context_length == 2048
    assert prompt_room(policy, RolloutSpec(max_prompt_tokens=1024, max_response_tokens=1024)).tokens == 1024
    room = prompt_room(policy, RolloutSpec(max_prompt_tokens=1024, max_response_tokens=2000))
    assert (room.tokens, room.param) == (48, "rollout.max_response_tokens")
    data = rows(tmp_path / "two.jsonl", SHORT, "x" * 60)
    long = RolloutSpec(prompts_per_step=1, samples_per_prompt=2, max_response_tokens=2000)
    spec = spec_of(tiny_model, tmp_path, training_data=data, rollout=long)
    with pytest.raises(InvalidSpec, match=r"more than 48 tokens, what the model's context of 2048 .*line 2 "):
        train(spec, tmp_path / "run")
    with pytest.raises(InvalidSpec, match="give less than 2048"):
        prompt_room(policy, RolloutSpec(max_response_tokens=2048))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    model = build_tiny_model(
        tmp_path / "model", chat_template=CHATML.replace("<|im_end|>", "<|im_end|><|more|>")
    )
    config = json.loads((model / "tokenizer.json").read_text())
    config["added_tokens"].append(config["added_tokens"][0] | {"id": 9_999, "content": "<|more|>"})
    (model / "tokenizer.json").write_text(json.dumps(config))
    with pytest.raises(InvalidSpec, match=r"line 1 has the token .* embeddings of \d+ tokens") as caught:
        train(spec_of(model, tmp_path), tmp_path / "run")
    assert caught.value.param == "model.path"


def test_items_know_their_line_and_place(tmp_path: Path):
    items = load_items(rows(tmp_path / "rows.jsonl", "a", "b", "c"))
    assert [(item.line, item.index) for item in items] == [(1, 0), (2, 1), (4, 2)]
