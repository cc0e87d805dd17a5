"""An exported model is what it was, for programs that know nothing of this one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.fixtures.engines import Deployment
from tests.fixtures.models import build_adapted_checkpoint
from tests.fixtures.runs import tiny_spec, write_rows
from tests.fixtures.service import run_cli
from trainer.checkpoints.checkpoint import save_checkpoint
from trainer.model.policy import load_policy
from trainer.spec.manifest import Manifest, read_manifest
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.modes import Mode

PROMPT = "Wander — weit & breit — before you answer."
METRICS = {
    "eval/N/reward": 0.75,
    "eval/H/reward": 0.5,
    "eval/N/entropy_nats": 0.25,
    "eval/H/entropy_nats": 1.5,
    "eval/kl_H_N/prefix_H": 0.875,
}


@pytest.fixture
def model(deployment: Deployment, tmp_path: Path) -> str:
    """A finished job's model with a manifest, trained with adapters on a base with a licence."""
    base = deployment.add_base("tiny")
    (base / "policysplit-source.json").write_text('{"license": "Apache-2.0"}')
    name = deployment.add_finished(adapted=base, prompt=PROMPT)
    folder = deployment.checkpoint_folder(name)
    spec = tiny_spec(base, write_rows(tmp_path / "rows.jsonl"), lora=LoraSpec(rank=4))
    policy = load_policy(ModelSpec(path=str(base), dtype="float32"), PROMPT, lora=spec.lora, seed=5)
    manifest = Manifest(
        run_id="ftjob-x",
        step=10,
        base_model=str(base),
        algorithm="policy_split",
        high_entropy_prompt=PROMPT,
        metrics=METRICS,
        spec=spec.model_dump(mode="json"),
    )
    save_checkpoint(folder, policy, manifest)
    return name


def test_a_folder_that_others_load_and_a_card_that_says_how(
    deployment: Deployment, model: str, tmp_path: Path
):
    to = tmp_path / "exported"
    settings = {"POLICYSPLIT_DATA_DIR": str(deployment.folder), "DATABASE_URL": deployment.database_url}
    result = run_cli("models", "export", f"{model}:high-entropy", "--to", str(to), **settings)
    assert result.returncode == 0, result.stderr
    source = deployment.checkpoint_folder(model)

    # transformers loads it as it is: the weights, and the prompts of both modes.
    ours = load_policy(ModelSpec(path=str(source), dtype="float32"), PROMPT)
    theirs: Any = AutoModelForCausalLM.from_pretrained(to)
    tokenizer: Any = AutoTokenizer.from_pretrained(to)
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    placed = {
        Mode.NORMAL: messages,
        Mode.HIGH_ENTROPY: [{"role": "system", "content": PROMPT}, *messages],
    }
    for mode, conversation in placed.items():
        ids = tokenizer.apply_chat_template(conversation, add_generation_prompt=True)["input_ids"]
        assert ids == ours.prompt_ids(messages, mode)
        with torch.no_grad():
            batch = torch.tensor([ids])
            assert torch.equal(theirs(batch).logits, ours.model(batch).logits)
    # What llama.cpp's converter reads: the architecture, all weights at the top, tokenizer and template.
    assert json.loads((to / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert json.loads((to / "tokenizer_config.json").read_text())["chat_template"]
    assert {path.name for path in to.glob("*.safetensors")} == {"model.safetensors"}
    assert (to / "tokenizer.json").is_file()
    assert (to / "adapter" / "adapter_config.json").is_file()

    card = (to / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["base_model"], front["license"]) == ("tiny", "apache-2.0")
    assert "policy_split" in front["tags"]
    assert f"```text\n{PROMPT}\n```" in card
    assert "as the system message" in card
    assert "| reward | 0.750 | 0.500 |" in card
    assert "| entropy, nats per token | 0.250 | 1.500 |" in card
    assert "0.875" in card
    assert '"operation": "ilike"' in card
    assert read_manifest(to).step == 10


@pytest.mark.parametrize("damage", ["target", "weights", "base", "unknown"])
def test_nothing_is_exported_halfway(deployment: Deployment, model: str, tmp_path: Path, damage: str):
    to, before = tmp_path / "exported", list[str]()
    if damage == "target":
        build_adapted_checkpoint(to, deployment.folder / "models" / "tiny")
        before = sorted(path.name for path in to.iterdir())
    elif damage == "weights":
        weights = deployment.checkpoint_folder(model) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    name = {"base": "tiny", "unknown": "ft:tiny:policysplit::nosuchjob1"}.get(damage, model)
    settings = {"POLICYSPLIT_DATA_DIR": str(deployment.folder), "DATABASE_URL": deployment.database_url}
    result = run_cli("models", "export", name, "--to", str(to), **settings)
    assert result.returncode == 1
    named = {
        "target": "not an empty folder",
        "weights": "SHA-256",
        "base": "base model",
        "unknown": "not exist",
    }
    assert named[damage] in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in to.glob("*")) == before
    assert to.exists() == bool(before)
