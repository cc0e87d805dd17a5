"""A run that asks for vLLM where it is not installed ends before it begins."""

import importlib.util
from pathlib import Path

import pytest

from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.spec.events import Failed
from trainer.spec.run import RolloutSpec


def test_the_error_names_the_extra(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rollout = RolloutSpec(engine="vllm", prompts_per_step=2, samples_per_prompt=2)
    spec = tiny_spec(tiny_model, write_rows(tmp_path / "data.jsonl"), rollout=rollout)
    with pytest.raises(
        InvalidSpec, match=r"not installed here: install the extra policysplit\[vllm\]"
    ) as caught:
        train(spec, tmp_path / "run")
    assert caught.value.param == "rollout.engine"
    (failed,) = events_of(tmp_path / "run")
    assert isinstance(failed, Failed)
