"""Rollout engines, one a file, behind ``trainer.rollout.engine.RolloutEngine``."""
