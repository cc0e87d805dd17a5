"""A served answer ends where a training response ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainer.model.policy import load_policy
from trainer.spec.model import ModelSpec
from worker.inference.engines.stop_tokens import stop_token_ids
from worker.inference.errors import EngineFailed


@pytest.mark.parametrize("named", [None, 65, [65, 66]])
@pytest.mark.parametrize("end", ["<|im_end|>", {"content": "<|im_end|>", "__type": "AddedToken"}, "a"])
def test_stop_tokens_are_those_of_training(tiny_model: Path, tmp_path: Path, named: Any, end: Any):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    for name, key, value in (
        ("generation_config", "eos_token_id", named),
        ("tokenizer_config", "eos_token", end),
    ):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    trained = load_policy(ModelSpec(path=str(folder), dtype="float32"), "").stop_ids
    assert set(stop_token_ids(folder)) == trained


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "did not finish within 5 s",
        ),
        ("{{ 'x' * 99999999999 }}", "MemoryError"),
    ],
    ids=["loops", "fills the memory"],
)
def test_a_template_that_holds_up_a_process_holds_up_one_of_its_own(
    tiny_model: Path, tmp_path: Path, template: str, says: str
):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    with pytest.raises(EngineFailed, match=says):
        stop_token_ids(tmp_path / "model")
