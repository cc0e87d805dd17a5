"""What ranks save of a model that is divided between them, and go on from."""

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.fixtures.groups import H, N, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.checkpoints import checkpoint
from trainer.checkpoints.checkpoint import Counters
from trainer.checkpoints.shards import BackgroundSave
from trainer.distributed.ranks import ALONE, Ranks
from trainer.model import whole
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy, load_policy, shard
from trainer.rollout.weight_transfer import checkpoint_weights
from trainer.spec.algorithm import PolicySplit
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import update

#: By name: the model's folder, its precision, whether it has adapters, and the largest file.
SAVED: dict[str, tuple[str, str, bool, int]] = {
    "float32": ("tiny", "float32", False, whole.FILE_BYTES),
    "bfloat16": ("tiny", "bfloat16", False, whole.FILE_BYTES),
    "adapters": ("tiny", "bfloat16", True, whole.FILE_BYTES),
    "not tied, files": ("untied", "float32", False, 30_000),
    "experts": ("qwen3-moe", "float32", False, whole.FILE_BYTES),
}

#: As what moments are kept.
Kept = Literal["float32", "int8"]
KEPT: tuple[Kept, ...] = ("float32", "int8")


def small_policy(model: str, ranks: Ranks, dtype: str = "float32", lora: bool = False) -> Policy:
    """A policy, sharded where there are several ranks; adapters that are not zero."""
    spec = ModelSpec.model_validate({"path": model, "dtype": dtype})
    policy = load_policy(spec, "Explore.", lora=LoraSpec(rank=4) if lora else None, to_shard=ranks.world > 1)
    torch.manual_seed(2)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn_like(parameter) / 10
    if ranks.world > 1:
        shard(policy)
    return policy


class Training:
    """A few steps of an optimizer on given groups, in float64."""

    def __init__(self, model: str, ranks: Ranks, kept: Kept = "float32"):
        self.ranks = ranks
        policy = load_policy(ModelSpec(path=model, dtype="float32"), "Explore.", to_shard=ranks.world > 1)
        policy.model = policy.model.double()
        if ranks.world > 1:
            shard(policy)
        self.policy = policy
        self.optimizer = MasterAdamW(policy.model, OptimizerSpec(learning_rate=1e-2, moments=kept))
        self.counters = Counters()

    def steps(self, count: int) -> None:
        for _ in range(count):
            rewards = [1.0, 0.0, 0.5, 0.0]
            groups = [
                make_group(self.policy, rewards, [N, N, H, H], index=i, seed=self.counters.step)
                for i in range(2)
            ]
            context = step_context(self.policy, build_algorithm(PolicySplit(), 64), ranks=self.ranks)
            update(context, self.optimizer, groups, first_update=self.counters.updates)
            self.counters.step += 1
            self.counters.updates += 1

    def load(self, parent: Path) -> list[str]:
        counters, problems = checkpoint.load_state(parent, self.optimizer, ranks=self.ranks)
        self.counters = counters or Counters()
        return problems

    def save(self, parent: Path) -> None:
        if self.ranks.beside is None:
            checkpoint.save_state(parent, self.optimizer, self.counters)
            return
        beside = BackgroundSave(self.ranks.beside)
        checkpoint.save_parts(parent, self.optimizer, self.counters, beside)
        beside.wait()
        self.ranks.gather(None)  # the first has put it in its place

    def weights(self) -> dict[str, Tensor]:
        return {name: one.clone() for name, one in self.optimizer.whole_masters()}


def go_on(model: str, parent: Path, kept: Kept, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """From the state that others left, one step further, which is saved; the weights then."""
    training = Training(model, ranks, kept)
    training.load(parent)
    training.steps(1)
    training.save(parent)
    return training.weights()


def states(model: str, parent: Path, ranks: Ranks) -> dict[str, Any]:
    """Two states, the first written while training goes on; what is resumed from them, and torn ones."""
    assert ranks.beside is not None
    training = Training(model, ranks)
    training.steps(1)
    saved = training.weights()
    beside = BackgroundSave(ranks.beside)
    checkpoint.save_parts(parent, training.optimizer, training.counters, beside)
    training.steps(1)  # changes the weights that are being written
    beside.wait()
    training.save(parent)
    training.steps(1)
    undisturbed = training.weights()
    again = Training(model, ranks)
    problems = again.load(parent)
    resumed_after = again.counters.step
    again.steps(1)
    if ranks.first:
        shutil.copytree(parent, parent.with_name("whole states"))
        with (parent / "step-2/__1_0.distcp").open("r+b") as part:
            part.truncate(1000)
    ranks.gather(None)
    before = Training(model, ranks)
    torn = before.load(parent)
    return {
        "saved": saved,
        "undisturbed": undisturbed,
        "resumed": again.weights(),
        "resumed after": resumed_after,
        "problems": problems,
        "torn": torn,
        "before": before.weights(),
        "before after": before.counters.step,
    }


def checkpoints(models: Path, parent: Path, ranks: Ranks) -> None:
    """Save each of ``SAVED`` as a checkpoint, and what an engine would be sent of it."""
    for name, (model, dtype, lora, size) in SAVED.items():
        policy = small_policy(str(models / model), ranks, dtype, lora)
        folder = parent / name
        if ranks.first:
            folder.mkdir(parents=True)
        whole.FILE_BYTES = size
        policy.save(folder if ranks.first else None)
        with checkpoint_weights(policy) as weights:
            sent = {name: weight.clone() for name, weight in weights.items()}
        if ranks.first:
            save_file(sent, folder / "sent")
