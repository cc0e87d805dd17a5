"""The gateway: chat completions in both modes of every finished checkpoint and from the base models."""
