"""A response ends where the chat template ends an assistant's turn, in sampling, training and serving."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from tests.fixtures.models import CHATML, build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from tests.fixtures.templates import GEMMA, GEMMA3, LLAMA3, QWEN3, SMOLLM2
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy, load_policy
from trainer.spec.events import MessageEvent, Rollouts
from trainer.spec.model import ModelSpec
from trainer.spec.run import RolloutSpec
from trainer.spec.turn_end import turn_end
from worker.inference.engines.stop_tokens import stop_token_ids

TOKENS = {
    text: number
    for number, text in enumerate(
        [
            "<|im_start|>",
            "<|im_end|>",
            "<|eot|>",
            "<|start|>",
            "<|end|>",
            "<start_of_turn>",
            "<end_of_turn>",
            "</s>",
        ]
    )
}
GENERATION = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}{{ m.content }}<|im_end|>"
    "{%- endgeneration -%}{%- continue -%}{%- endif -%}<|im_start|>{{ m.content | tojson(indent=2) }}"
    "{%- endfor -%}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n\n{% endfor %}"
BY_EOS = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
NO_ASSISTANT = (
    "{% for m in messages %}{% if m['role'] != 'user' %}{{ raise_exception('users only') }}{% endif %}"
    "{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (QWEN3, "<|im_end|>"),
        (SMOLLM2, "<|im_end|>"),
        (LLAMA3, "<|eot|>"),
        (GEMMA, "<end_of_turn>"),
        (GEMMA3, "<end_of_turn>"),
        (GENERATION, "<|im_end|>"),
        (BY_EOS, "</s>"),
        (PLAIN, None),
        (NO_ASSISTANT, None),
        ("{% not a template", None),
    ],
)
def test_the_turn_ends_with_the_first_token_behind_it(template: str, end: str | None):
    found = turn_end(template, TOKENS, special={"bos_token": "<s>", "eos_token": "</s>"})
    assert found == (None if end is None else TOKENS[end])


def edit(folder: Path, name: str, **changes: Any) -> Path:
    """Change a JSON file of a model; None removes a key."""
    file = folder / name
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: one for key, one in value.items() if one is not None}))
    return folder


def with_eos(folder: Path, eos: str | None, template: str = CHATML) -> Path:
    """A model whose tokenizer and configs name ``eos`` or nothing as the end."""
    build_tiny_model(folder, chat_template=template)
    number = None if eos is None else AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(eos)
    for name in ("config.json", "generation_config.json"):
        edit(folder, name, eos_token_id=number, pad_token_id=None)
    return edit(folder, "tokenizer_config.json", eos_token=eos, pad_token=None)


def loaded(folder: Path) -> Policy:
    return load_policy(ModelSpec(path=str(folder), dtype="float32"), "Explore.")


@pytest.mark.parametrize("eos", ["a", None])
def test_responses_end_at_the_turn_and_so_does_what_is_served(tmp_path: Path, eos: str | None):
    """Of a tokenizer that names another end, or none; without a token for padding."""
    model = with_eos(tmp_path / "model", eos)
    policy = loaded(model)
    turn = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends = {turn} | ({policy.tokenizer.convert_tokens_to_ids(eos)} if eos else set())
    assert policy.stop_ids == ends
    assert policy.pad_id in range(policy.output_VD.shape[0])
    spec = tiny_spec(
        model,
        write_rows(tmp_path / "rows.jsonl"),
        total_steps=2,
        validation_data=None,
        rollout=RolloutSpec(prompts_per_step=3, samples_per_prompt=4, max_response_tokens=400),
    )
    result = train(spec, tmp_path / "run")
    assert result.checkpoint is not None
    told = [e for e in events_of(tmp_path / "run") if isinstance(e, MessageEvent)]
    assert any("ends an assistant's turn with '<|im_end|>'" in event.message for event in told)
    last = [
        record.token_texts[-1]
        for event in events_of(tmp_path / "run")
        if isinstance(event, Rollouts)
        for record in event.rollouts
        if not record.truncated
    ]
    assert "<|im_end|>" in last
    assert set(last) <= {"<|im_end|>", eos}
    saved = GenerationConfig.from_pretrained(result.checkpoint).eos_token_id
    assert set(saved if isinstance(saved, list) else [saved]) == ends
    assert set(stop_token_ids(model)) == set(stop_token_ids(result.checkpoint)) == ends


def test_a_model_without_any_end_is_refused(tmp_path: Path):
    model = with_eos(tmp_path / "model", None, template=PLAIN)
    with pytest.raises(
        InvalidSpec, match=r"no token that ends a response.*eos_token in tokenizer_config.json"
    ) as caught:
        loaded(model)
    assert caught.value.param == "model.path"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, "temperature 0.6, top_p 0.9"),
        ({"top_k": 20, "min_p": 0.1, "length_penalty": 2.0}, "top_k 20, min_p 0.1, length_penalty 2.0"),
        ({"pad_token_id": -1}, "cannot be saved"),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, None),
    ],
)
def test_a_generation_config_that_cannot_be_saved_is_saved_valid(
    tmp_path: Path, config: dict[str, Any], says: str | None
):
    model = edit(build_tiny_model(tmp_path / "model"), "generation_config.json", **config)
    policy = loaded(model)
    assert len(policy.notes) == (says is not None)
    assert (says or "") in "".join(policy.notes)
    (tmp_path / "saved").mkdir()
    policy.save(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert again.stop_ids == policy.stop_ids
    assert not again.notes
    if says is None:
        assert (again.model.generation_config.temperature, again.model.generation_config.top_p) == (0.6, 0.9)


def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path):
    model = edit(build_tiny_model(tmp_path / "model"), "generation_config.json", num_return_sequences=4)
    with pytest.raises(InvalidSpec, match=r"cannot load the model.*num_return_sequences"):
        loaded(model)
    edit(model, "config.json", model_type="unheard_of")
    with pytest.raises(InvalidSpec, match=r"cannot load the model.*unheard_of"):
        loaded(model)


def test_a_generation_config_of_the_models_config_is_saved_valid(tmp_path: Path):
    """Older models have its options in config.json."""
    model = edit(build_tiny_model(tmp_path / "model"), "config.json", temperature=0.6, do_sample=False)
    (model / "generation_config.json").unlink()
    policy = loaded(model)
    (tmp_path / "saved").mkdir()
    policy.save(tmp_path / "saved")
    assert loaded(tmp_path / "saved").stop_ids == policy.stop_ids
