"""What tells whether the modes differ, and how: read-only probes beside the training."""
