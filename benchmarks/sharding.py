"""What a rank has of a model divided over 1, 2 and 4, and its pace: ``python -m benchmarks.sharding``.

Ranks are processes of this machine's CPU, with one thread each, joined by gloo: bytes are those of any
machine, times are of this one alone and say nothing of GPUs. The model has random weights, eight layers of
width 256. An update is ``policy_split`` on four groups of four responses of 32 tokens, bfloat16 in use.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from tests.fixtures.groups import make_group
from tests.fixtures.models import build_tiny_model
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.distributed.launch import launch
from trainer.distributed.ranks import join_ranks
from trainer.distributed.sharding import own_bytes
from trainer.model.optim import MasterAdamW
from trainer.model.policy import load_policy, shard
from trainer.spec.algorithm import PolicySplit
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import update

WORLDS = (1, 2, 4)
GROUPS, RESPONSES, TOKENS = 4, 4, 32
UPDATES = 8
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
}
KINDS = ("weights", "gradients", "moments")


class Weighing(MasterAdamW):
    """Tells the bytes of what this rank has when an update is made."""

    kept: dict[str, int]

    def step(self, step: int) -> float:
        masters = list(self.masters().values())
        gradients = own_bytes(one.grad for one in masters if one.grad is not None)
        norm = super().step(step)
        moments = [one for name, one in self.state_tensors().items() if name.startswith("exp_avg")]
        in_use = {id(one): one for one in [*self._parameters.values(), *masters]}
        self.kept = {
            "weights": own_bytes(in_use.values()),
            "gradients": gradients,
            "moments": own_bytes(moments),
        }
        return norm


def one(model: Path, out: Path) -> None:
    """Write the bytes of this rank, and the tokens a second of the update after the first."""
    torch.set_num_threads(1)
    with join_ranks(on_lost=sys.exit) as ranks:
        alone = ranks.world == 1
        policy = load_policy(ModelSpec(path=str(model)), "Explore.", to_shard=not alone)
        if not alone:
            shard(policy)
        optimizer = Weighing(policy.model, OptimizerSpec())
        groups = [
            make_group(
                policy,
                [float(place < 3) for place in range(RESPONSES)],
                list(Mode) * (RESPONSES // 2),
                index=index,
                lengths=[TOKENS] * RESPONSES,
            )
            for index in range(GROUPS)
        ]
        context = step_context(policy, build_algorithm(PolicySplit()), ranks=ranks)
        times = []
        for number in range(UPDATES):
            started = time.perf_counter()
            # A group a pass, so that each of four ranks has one.
            update(context, optimizer, groups, first_update=number, tokens_per_micro_batch=400)
            times.append(time.perf_counter() - started)
        tokens = GROUPS * RESPONSES * TOKENS * 2
        found = {**optimizer.kept, "tokens_per_second": tokens / min(times[1:])}
        (out / f"{ranks.world}-{ranks.rank}.json").write_text(json.dumps(found))


def main() -> int:
    """Print the table, or be the ranks of one world of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--world", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.world:
        if options.world > 1 and (ended := launch(options.world)) is not None:
            return ended.exit_code
        one(options.scratch / "model", options.scratch)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        model = build_tiny_model(Path(scratch) / "model")
        config = transformers.AutoConfig.from_pretrained(model)
        config.update({**SHAPE, "head_dim": 64})
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(model)
        print("| ranks | weights, MB | gradients, MB | moments, MB | all | tokens/s here |")
        print("|---|---|---|---|---|---|")
        for world in WORLDS:
            command = [sys.executable, "-m", "benchmarks.sharding", "--world", str(world)]
            if os.spawnv(os.P_WAIT, sys.executable, [*command, "--scratch", scratch]) != 0:
                return 1
            ranks = [json.loads((Path(scratch) / f"{world}-{n}.json").read_text()) for n in range(world)]
            most = [max(of_rank[kind] for of_rank in ranks) / 1e6 for kind in KINDS]
            speed = ranks[0]["tokens_per_second"]
            cells = [str(world), *(f"{size:.1f}" for size in (*most, sum(most))), f"{speed:,.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
