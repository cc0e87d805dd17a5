"""Rollout engines, one a file, behind ``trainer.rollout.engine.RolloutEngine``."""

from collections.abc import Callable

from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine
from trainer.spec.run import RunSpec


def build_engine(
    spec: RunSpec, policy: Policy, stopping: Callable[[], bool] = lambda: False
) -> RolloutEngine:
    """The engine that ``spec.rollout.engine`` names. Raises InvalidSpec where it cannot work.

    ``stopping`` tells that the run is to stop: an engine that hangs is then waited for no longer.
    """
    match spec.rollout.engine:
        case "transformers":
            return TransformersEngine(policy)
        case "vllm":
            return VllmEngine(policy, spec.model, spec.rollout, stopping)
