"""Chat templates of the model families: prompts of both modes, what is refused, what runs do with them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fixtures.groups import H, N, load_tiny_policy
from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from tests.fixtures.templates import DROPS_SYSTEM, GEMMA, GEMMA3, LLAMA3, QWEN3, SMOLLM2
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy, load_policy
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.events import CheckpointSaved, MessageEvent, Rollouts
from trainer.spec.manifest import read_manifest
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode

PROMPT = "Wander first."
USER = [{"role": "user", "content": " What is 2 + 2? "}]
TURNS = [
    *USER,
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFour."},
    {"role": "user", "content": "Sure?"},
]
BRIEF = [{"role": "system", "content": "Be brief."}, *USER]


@pytest.fixture
def policy_with(tmp_path: Path):
    """The tiny model with a chat template."""

    def load(template: str, **options: Any) -> Policy:
        folder = build_tiny_model(tmp_path / "model", chat_template=template)
        return load_policy(ModelSpec(path=str(folder), dtype="float32"), PROMPT, **options)

    return load


def prompts(policy: Policy, messages: list[dict[str, Any]]) -> dict[Mode, str]:
    """What the model reads, from the token ids."""
    return {mode: policy.tokenizer.decode(policy.prompt_ids(messages, mode)) for mode in Mode}


def test_llama_fills_its_own_system_turn_below_the_date(policy_with):
    found = prompts(policy_with(LLAMA3, chat_template_kwargs={"date_string": "1 Jan 2001"}), USER)
    head = "<|im_start|><|start|>system<|end|>\n\nCutting Knowledge Date: December 2023\n"
    head += "Today Date: 1 Jan 2001\n\n"
    tail = "<|eot|><|start|>user<|end|>\n\nWhat is 2 + 2?<|eot|><|start|>assistant<|end|>\n\n"
    assert found == {N: head + tail, H: head + PROMPT + tail}
    today = prompts(policy_with(LLAMA3), USER)[N]
    assert datetime.now().strftime("%d %b %Y") in today


@pytest.mark.parametrize("thinking", [True, False, None])
def test_qwen_thinks_unless_told_not_to(policy_with, thinking: bool | None):
    variables = {} if thinking is None else {"enable_thinking": thinking}
    policy = policy_with(QWEN3, chat_template_kwargs=variables)
    end = "<|im_start|>assistant\n" + ("<think>\n\n</think>\n\n" if thinking is False else "")
    found = prompts(policy, TURNS)
    body = (
        "<|im_start|>user\n What is 2 + 2? <|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n"
    )
    assert found == {N: body + end, H: f"<|im_start|>system\n{PROMPT}<|im_end|>\n{body}{end}"}
    both = prompts(policy, BRIEF)
    assert both[N].startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert both[H].startswith(f"<|im_start|>system\nBe brief.\n\n{PROMPT}<|im_end|>\n")


def test_gemma_takes_the_prompt_in_front_of_the_first_user_message(policy_with):
    found = prompts(policy_with(GEMMA, placement="user_prefix"), TURNS)
    rest = (
        "What is 2 + 2?<end_of_turn>\n<start_of_turn>model\n<think>\nhm\n</think>\n\nFour.<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n"
    )
    begin = "<|im_start|><start_of_turn>user\n"
    assert found[N] == begin + rest
    assert found[H] == f"{begin}{PROMPT}\n\n {rest}"


def test_gemma3_folds_the_system_message_into_the_user_turn_itself(policy_with):
    found = prompts(policy_with(GEMMA3), USER)
    rest = "What is 2 + 2?<end_of_turn>\n<start_of_turn>model\n"
    begin = "<|im_start|><start_of_turn>user\n"
    assert found == {N: begin + rest, H: f"{begin}{PROMPT}\n\n{rest}"}


def test_smollm_keeps_its_default_system_turn_in_normal_mode(policy_with):
    found = prompts(policy_with(SMOLLM2), USER)
    assert found[N].startswith(
        "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n<|im_start|>user"
    )
    assert found[H].startswith(f"<|im_start|>system\n{PROMPT}<|im_end|>\n<|im_start|>user")


# --- runs --------------------------------------------------------------------------------------------------


def spec_with(template: str, folder: Path, rows: Path | None = None, **changes: Any):
    model = build_tiny_model(folder / "model", chat_template=template)
    rows = rows or write_rows(folder / "data.jsonl")
    changes = {"total_steps": 1, "validation_data": None, "high_entropy_prompt": PROMPT} | changes
    return tiny_spec(model, rows, **changes)


@pytest.mark.parametrize(
    ("template", "reason"),
    [(GEMMA, "System role not supported"), (DROPS_SYSTEM, "omits it from the prompt")],
)
def test_policy_split_without_a_system_role_is_refused_with_the_way_out(
    tmp_path: Path, template: str, reason: str
):
    spec = spec_with(template, tmp_path)
    with pytest.raises(InvalidSpec, match=rf"no system role.*{reason}.*'user_prefix'") as caught:
        train(spec, tmp_path / "run")
    assert caught.value.param == "high_entropy_placement"
    assert not [event for event in events_of(tmp_path / "run") if isinstance(event, Rollouts)]


def test_with_a_prefix_the_run_and_its_checkpoint_say_where_the_prompt_stands(tmp_path: Path):
    result = train(spec_with(GEMMA, tmp_path, high_entropy_placement="user_prefix"), tmp_path / "run")
    events = events_of(tmp_path / "run")
    (rollouts,) = [event for event in events if isinstance(event, Rollouts)]
    for record in rollouts.rollouts:
        assert (f"<start_of_turn>user\n{PROMPT}\n\nsay" in record.prompt) == (record.mode is H)
    (saved,) = [event for event in events if isinstance(event, CheckpointSaved)]
    assert result.checkpoint is not None
    manifest = read_manifest(result.checkpoint)
    assert saved.high_entropy_placement == manifest.high_entropy_placement == "user_prefix"


@pytest.mark.parametrize("algorithm", [Grpo(), PolicySplit(high_entropy_samples=0, sharing="none", eta=0.0)])
def test_a_run_without_the_mode_needs_no_system_role_and_serves_no_mode(tmp_path: Path, algorithm):
    result = train(spec_with(GEMMA, tmp_path, algorithm=algorithm), tmp_path / "run")
    assert result.checkpoint is not None
    assert read_manifest(result.checkpoint).high_entropy_prompt == ""
    messages = [event.message for event in events_of(tmp_path / "run") if isinstance(event, MessageEvent)]
    assert any("no high-entropy mode" in message for message in messages)


def test_template_variables_reach_training_and_the_checkpoint(tmp_path: Path):
    spec = spec_with(QWEN3, tmp_path, chat_template_kwargs={"enable_thinking": False})
    result = train(spec, tmp_path / "run")
    events = events_of(tmp_path / "run")
    (rollouts,) = [event for event in events if isinstance(event, Rollouts)]
    assert all(record.prompt.endswith("</think>\n\n") for record in rollouts.rollouts)
    (saved,) = [event for event in events if isinstance(event, CheckpointSaved)]
    assert result.checkpoint is not None
    manifest = read_manifest(result.checkpoint)
    assert saved.chat_template_kwargs == manifest.chat_template_kwargs == {"enable_thinking": False}


def test_variables_that_nothing_reads_are_refused(tmp_path: Path):
    with pytest.raises(InvalidSpec, match="'enable_thinkin'") as caught:
        train(spec_with(QWEN3, tmp_path, chat_template_kwargs={"enable_thinkin": False}), tmp_path / "run")
    assert caught.value.param == "chat_template_kwargs"
    with pytest.raises(ValidationError, match="add_generation_prompt"):
        spec_with(QWEN3, tmp_path, chat_template_kwargs={"add_generation_prompt": False})


def test_a_prompt_that_changes_with_the_day_is_told(tmp_path: Path):
    for name, variables in (("told", {}), ("fixed", {"date_string": "1 Jan 2001"})):
        train(spec_with(LLAMA3, tmp_path, chat_template_kwargs=variables), tmp_path / name)
        told = [e.message for e in events_of(tmp_path / name) if isinstance(e, MessageEvent)]
        assert any("date_string" in message for message in told) == (name == "told")


def test_conversations_that_the_template_refuses_are_found_before_training(tmp_path: Path):
    rows = write_rows(tmp_path / "data.jsonl", 6)
    with rows.open("a") as file:
        file.write(json.dumps({"messages": BRIEF, "letter": "a"}) + "\n")
    with pytest.raises(InvalidSpec, match="line 7 in normal mode: System role not supported") as caught:
        train(spec_with(GEMMA, tmp_path, rows, high_entropy_placement="user_prefix"), tmp_path / "run")
    assert caught.value.param == "training_data"


def test_a_token_says_the_same_each_time_it_is_asked(tiny_model: Path):
    policy = load_tiny_policy(tiny_model)
    expected = [str(policy.tokenizer.decode([token])) for token in range(len(policy.tokenizer))]
    for _ in range(2):
        assert [policy.token_text(token) for token in range(len(policy.tokenizer))] == expected
