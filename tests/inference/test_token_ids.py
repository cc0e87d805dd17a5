"""A served prompt is the training prompt, token by token: in both modes, whatever the chat template."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fixtures.engines import PROMPT, Deployment
from tests.fixtures.forks import forked
from tests.fixtures.models import CHATML
from tests.fixtures.templates import (
    DEVELOPER,
    GEMMA,
    GEMMA3,
    LLAMA3,
    NAMES,
    PARTS,
    QWEN3,
    TOOLS_QWEN,
)
from trainer.model.policy import Policy, load_policy
from trainer.model.templates import probe_ids
from trainer.spec.manifest import MANIFEST_NAME, Manifest
from trainer.spec.messages import conversation
from trainer.spec.model import ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode, Placement

# As SmolLM2 does: a system turn of its own where the conversation has none.
DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Llama 2 does: the system turn inside the first user turn, contents stripped.
FOLDED_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set s = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "<|im_start|>[INST] {{ ((s if loop.first else '') + m['content']).strip() }} [/INST]"
    "{% else %} {{ m['content'].strip() }} <|im_end|>{% endif %}{% endfor %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "default_system": DEFAULT_SYSTEM,
    "folded_system": FOLDED_SYSTEM,
    "parts": PARTS,
    "names": NAMES,
    "developer": DEVELOPER,
    "tools": TOOLS_QWEN,
}
PROMPTS = {"default_system": DEFAULT_HIGH_ENTROPY_PROMPT, "folded_system": "Überlege — 想! 🌀"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"b": 2, "a": 1}'}}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": 'Adds "two" numbers',
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}},
            "strict": True,
        },
    },
    {"type": "function", "function": {"name": "now"}},
]

CONVERSATIONS = {
    "user": [{"role": "user", "content": "What is 2 + 2?"}],
    "system": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  What is 2 + 2?\n"},
    ],
    "turns": [
        {"role": "user", "content": "Grüß Gott <|im_end|>"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And 3 + 3?"},
    ],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "2 +"}, {"type": "text", "text": " 2?"}]},
    ],
    "developer": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": "What is 2 + 2?"},
    ],
    "calls": [
        {"role": "user", "name": None, "content": "1 + 2?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "3"}]},
    ],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Path]]:
    """A deployment whose engines write down the token ids that they are given, and the file they write."""
    folder = tmp_path_factory.mktemp("recorded")
    record = folder / "token_ids.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECORDED_TOKEN_IDS", str(record))
        deployment = Deployment(
            folder,
            ENGINE_COMMAND=json.dumps(forked("tests.inference.recording_engine")),
            ENGINE_ENVIRONMENT=json.dumps(["RECORDED_TOKEN_IDS"]),
        )
        try:
            deployment.start_api()
            deployment.start_inference()
            yield deployment, record
        finally:
            deployment.close()


@pytest.mark.parametrize("template", TEMPLATES)
def test_served_ids_are_the_ids_of_a_training_row(recorded: tuple[Deployment, Path], template: str):
    deployment, record = recorded
    prompt = PROMPTS.get(template, PROMPT)
    model = deployment.add_finished(chat_template=TEMPLATES[template], prompt=prompt)
    folder = next((deployment.folder / "runs").glob(f"*{model.rsplit(':', 1)[1]}*/checkpoints/step-10"))
    policy = load_policy(ModelSpec(path=str(folder), dtype="float32"), prompt)
    tools = TOOLS if template == "tools" else None
    served_as_trained(deployment, record, model, policy, CONVERSATIONS, tools)
    if tools:
        told = conversation({"messages": CONVERSATIONS["user"], "tools": tools})
        plain = told.templated(knows_developer=True)
        with_tools = policy.prompt_ids(plain, Mode.NORMAL, told.templated_tools())
        assert with_tools != policy.prompt_ids(plain, Mode.NORMAL)


def served_as_trained(
    deployment: Deployment,
    record: Path,
    model: str,
    policy: Policy,
    conversations: dict[str, Any],
    tools: list[dict[str, Any]] | None = None,
) -> None:
    """Each conversation in each mode reaches the engine with the policy's own token ids."""
    client = deployment.client()
    for name, messages in conversations.items():
        told = conversation({"messages": messages, "tools": tools})
        plain, with_tools = told.templated(knows_developer=True), told.templated_tools()
        for mode in Mode:
            options: dict[str, Any] = {
                "model": model if mode is Mode.NORMAL else f"{model}:high-entropy",
                "messages": messages,
                "max_tokens": 1,
            }
            if tools:
                options["tools"] = tools
            answer = client.chat.completions.create(**options)
            served = json.loads(record.read_text().splitlines()[-1])
            assert served == policy.prompt_ids(plain, mode, with_tools), (name, mode)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens == len(served)
    assert len(record.read_text().splitlines()) % (2 * len(conversations)) == 0


@pytest.mark.parametrize(
    ("template", "placement", "variables"),
    [
        (GEMMA, "user_prefix", {}),
        (QWEN3, "system", {"enable_thinking": False}),
        (QWEN3, "system", {"enable_thinking": True}),
        (LLAMA3, "system", {"date_string": "1 Jan 2001"}),
        (GEMMA3, "system", {}),
    ],
    ids=["gemma", "qwen3-not-thinking", "qwen3-thinking", "llama3", "gemma3"],
)
def test_placement_and_template_variables_are_served_as_trained(
    recorded: tuple[Deployment, Path], template: str, placement: Placement, variables: dict[str, Any]
):
    deployment, record = recorded
    model = deployment.add_finished(
        chat_template=template, placement=placement, chat_template_kwargs=variables
    )
    folder = next((deployment.folder / "runs").glob(f"*{model.rsplit(':', 1)[1]}*/checkpoints/step-10"))
    policy = load_policy(
        ModelSpec(path=str(folder), dtype="float32"),
        PROMPT,
        placement=placement,
        chat_template_kwargs=variables,
    )
    conversations = {name: CONVERSATIONS[name] for name in ("user", "turns")}
    served_as_trained(deployment, record, model, policy, conversations)
    with_variables = policy.prompt_ids(CONVERSATIONS["user"], Mode.NORMAL)
    policy.chat_template_kwargs = {}
    assert (policy.prompt_ids(CONVERSATIONS["user"], Mode.NORMAL) != with_variables) == (
        variables not in ({}, {"enable_thinking": True})
    )


@pytest.mark.parametrize("edited", [False, True])
def test_a_checkpoint_is_not_served_by_an_engine_that_renders_its_prompts_otherwise(
    recorded: tuple[Deployment, Path], edited: bool
):
    """Its template was edited after training: each request is refused, with what is wrong, in either mode."""
    deployment, record = recorded
    model = deployment.add_finished(chat_template=CHATML)
    folder = next((deployment.folder / "runs").glob(f"*{model.rsplit(':', 1)[1]}*/checkpoints/step-10"))
    policy = load_policy(ModelSpec(path=str(folder), dtype="float32"), PROMPT)
    manifest = Manifest(
        run_id="run",
        step=10,
        base_model="tiny",
        algorithm="policy_split",
        high_entropy_prompt=PROMPT,
        probe_ids=probe_ids(policy),
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    if edited:
        policy.tokenizer.chat_template = CHATML.replace("assistant", "model")
        policy.tokenizer.save_pretrained(folder)
    client = deployment.client()
    record.touch()
    before = record.read_text()
    for name in (model, f"{model}:high-entropy", model):
        options: dict[str, Any] = {"model": name, "messages": CONVERSATIONS["user"], "max_tokens": 1}
        if not edited:
            assert client.chat.completions.create(**options).usage
            continue
        with pytest.raises(openai.InternalServerError, match="renders a conversation") as caught:
            client.chat.completions.create(**options)
        assert (caught.value.status_code, caught.value.code) == (503, "prompt_mismatch")
    assert (record.read_text() == before) is edited
