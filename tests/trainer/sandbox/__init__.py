"""Sandboxes: what gets out of them, and what comes through."""
