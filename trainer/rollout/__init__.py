"""Rollout engines, one a file, behind ``trainer.rollout.engine.RolloutEngine``."""

from trainer.policy import Policy
from trainer.rollout.engine import RolloutEngine
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine
from trainer.spec import RunSpec


def build_engine(spec: RunSpec, policy: Policy) -> RolloutEngine:
    """The engine that ``spec.rollout.engine`` names. Raises InvalidSpec where it cannot work."""
    match spec.rollout.engine:
        case "transformers":
            return TransformersEngine(policy)
        case "vllm":
            return VllmEngine(policy, spec.model, spec.rollout)
