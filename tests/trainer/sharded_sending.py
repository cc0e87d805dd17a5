"""The second of two ranks, which sends its part of the weights to the engine that the first has."""

import sys

from tests.trainer.sharded_saving import small_policy
from trainer.distributed.ranks import join_ranks
from trainer.rollout.weight_transfer import PipeSender

if __name__ == "__main__":
    with join_ranks(on_lost=sys.exit) as ranks:
        PipeSender(small_policy(sys.argv[1], ranks, lora=True), None).send()
