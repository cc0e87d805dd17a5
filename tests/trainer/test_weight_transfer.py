"""Weights on their way from the trainer to an engine: the names and the bits of a checkpoint."""

import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.models import build_tiny_model
from trainer.model.policy import load_policy
from trainer.rollout.weight_transfer import checkpoint_weights, receive_weights, send_weights
from trainer.spec.model import LoraSpec, ModelSpec


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=4)], ids=["full", "lora"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_arrives_is_what_a_checkpoint_has(tmp_path: Path, dtype: str, tied: bool, lora: LoraSpec | None):
    build_tiny_model(tmp_path / "model", tied=tied)
    spec = ModelSpec.model_validate({"path": str(tmp_path / "model"), "dtype": dtype})
    policy = load_policy(spec, "", lora=lora)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    (tmp_path / "saved").mkdir()
    policy.save(tmp_path / "saved")
    expected = load_file(tmp_path / "saved/model.safetensors")

    ours, theirs = Pipe()
    with ours, theirs, checkpoint_weights(policy) as weights:
        sender = threading.Thread(target=send_weights, args=(ours, weights))
        sender.start()
        arrived = dict(receive_weights(theirs))
        sender.join()
    assert arrived.keys() == expected.keys()
    for name, weight in arrived.items():
        assert weight.dtype is expected[name].dtype
        assert torch.equal(weight, expected[name]), name
