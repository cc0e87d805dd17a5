"""Rollout engines, one a file, behind ``trainer.rollout.engine.RolloutEngine``."""

from collections.abc import Callable

from trainer.distributed.ranks import ALONE, Ranks
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine
from trainer.rollout.first_ranks_engine import FirstRanksEngine
from trainer.rollout.places import engine_places
from trainer.rollout.sharded_engine import ShardedEngine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine, engine_setup, weight_sender
from trainer.spec.run import RunSpec


def build_engine(
    spec: RunSpec, policy: Policy, stopping: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE
) -> RolloutEngine:
    """The engine that ``spec.rollout.engine`` names; collective. Raises InvalidSpec where it cannot work.

    ``stopping`` tells that the run is to stop: an engine that hangs is then waited for no longer.
    """
    if spec.rollout.engine != "vllm":
        own = TransformersEngine(policy)
        return own if ranks.world == 1 else ShardedEngine(own, ranks)
    resources = spec.resources
    places = engine_places(resources, policy.device, ranks)
    if ranks.world == 1 or not (resources.rollout_gpus or resources.tensor_parallel > 1):
        beside = VllmEngine(policy, spec.model, spec.rollout, stopping, places)
        return beside if ranks.world == 1 else ShardedEngine(beside, ranks)

    def start() -> VllmEngine | None:
        return VllmEngine(policy, spec.model, spec.rollout, stopping, places, with_weights=False)

    engine = ranks.on_first(start, lambda: None)
    sender = None
    if not ranks.first:
        setup = engine_setup(policy, spec.model, spec.rollout, places)
        sender = weight_sender(policy, None, setup, places, ranks.rank)
        sender.connect()
    shared = FirstRanksEngine(engine, sender, ranks)
    shared.sync()
    return shared
