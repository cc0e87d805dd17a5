"""A step done again has the digest it had, from whatever is left of the run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.checkpoints import checkpoint as checkpoints
from trainer.errors import InvalidSpec
from trainer.loop import Run
from trainer.replay import replay
from trainer.spec.events import EventWriter, StepDigest, StepMetrics
from trainer.spec.run import RunSpec


def train(spec: RunSpec, run_dir: Path) -> dict[int, StepDigest]:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    metrics = [event for event in events_of(run_dir) if isinstance(event, StepMetrics)]
    return {event.step: event.digest for event in metrics if event.digest is not None}


def test_a_step_is_replayed_from_what_is_nearest(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    spec = tiny_spec(tiny_model, write_rows(tmp_path / "data.jsonl"), total_steps=4)
    # A run that is not finished has its states still.
    monkeypatch.setattr("trainer.checkpoints.run_folder.RunFolder.shelve_state", lambda _self: None)
    digests = train(spec, tmp_path / "run")
    assert sorted(digests) == [1, 2, 3, 4]
    assert [step for step, digest in digests.items() if digest.weights] == [2, 4], "at checkpoints"
    before = sorted(path for path in (tmp_path / "run").rglob("*"))

    fourth = replay(spec, tmp_path / "run", 4)
    assert (fourth.source, fourth.from_step, fourth.digest) == ("state", 2, digests[4])
    second = replay(spec, tmp_path / "run", 2)
    assert (second.source, second.from_step, second.digest) == ("beginning", 0, digests[2])
    # Without states: the checkpoint knows the weights, and not what AdamW had gathered.
    monkeypatch.setattr(checkpoints, "step_folders", lambda _parent: {})
    third = replay(spec, tmp_path / "run", 3)
    assert (third.source, third.from_step) == ("checkpoint", 2)
    assert third.digest == digests[3].model_copy(update={"weights": None})
    assert sorted(path for path in (tmp_path / "run").rglob("*")) == before, "it leaves nothing behind"
    with pytest.raises(InvalidSpec, match="no step 5"):
        replay(spec, tmp_path / "run", 5)


def test_other_weights_give_another_digest(tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    spec = tiny_spec(tiny_model, write_rows(tmp_path / "data.jsonl"), total_steps=3)
    digests = train(spec, tmp_path / "run")
    path = tmp_path / "run/checkpoints/step-3/model.safetensors"
    assert path.is_file()
    base = Path(spec.model.path) / "model.safetensors"
    weights = load_file(base)
    other = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in weights.items()}
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in Path(spec.model.path).iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    save_file(other, changed / "model.safetensors", metadata={"format": "pt"})
    moved = spec.model_copy(update={"model": spec.model.model_copy(update={"path": str(changed)})})
    found = replay(moved, tmp_path / "elsewhere", 1).digest
    assert found.rollouts != digests[1].rollouts
    assert found.grad_norm != digests[1].grad_norm
