"""The models that can be asked: base models, and finished checkpoints under an id for each mode."""
