"""Models of the families that people train now: a run of each, or a refusal before its first step."""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.architectures import FAMILIES, build_architecture
from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, family_spec
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.evaluation.trial import DRY_RUN, try_checkpoint
from trainer.spec.events import StepMetrics


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_trains_the_policy_that_it_samples(tmp_path: Path, family: str):
    """Three steps in float32: what is scored is what was sampled, to 1e-4 nats, and the result loads."""
    model = build_architecture(tmp_path / "model", family)
    result = train(family_spec(model, tmp_path, 3), tmp_path / "run")
    events = events_of(tmp_path / "run")
    steps = [e.values for e in events if isinstance(e, StepMetrics)]
    assert [values["rollout/logprob_gap_max"] < 1e-4 for values in steps] == [True] * 3
    assert sum(values["train/grad_norm"] > 0 for values in steps) >= 1
    assert result.checkpoint is not None
    assert load_tiny_policy(result.checkpoint).stop_ids


def test_a_model_that_samples_otherwise_than_it_scores_is_refused_before_training(tmp_path: Path):
    """A state space whose cache does not know of padding."""
    model = build_architecture(tmp_path / "model", "mamba2")
    with pytest.raises(InvalidSpec, match="a different policy when sampled") as caught:
        train(family_spec(model, tmp_path, 3), tmp_path / "run")
    assert caught.value.param == "model.path"
    assert not [e for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics)]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_before_training(tmp_path: Path):
    policy = load_tiny_policy(build_tiny_model(tmp_path / "model"))
    try_checkpoint(policy, tmp_path / "checkpoints")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    policy.model.generation_config.num_return_sequences = 4  # transformers refuses to save it
    with pytest.raises(
        InvalidSpec, match=r"cannot be written and read back: .*num_return_sequences"
    ) as caught:
        try_checkpoint(policy, tmp_path / "checkpoints")
    assert caught.value.param == "model.path"
    assert not list((tmp_path / "checkpoints").glob(f"{DRY_RUN}*"))


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is not the model's fault, and the run may go on when there is room."""
    policy: Any = load_tiny_policy(build_tiny_model(tmp_path / "model"))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policy.tokenizer, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        try_checkpoint(policy, tmp_path / "checkpoints")
