"""Finished checkpoints: their names, rows and listing."""
