"""Graders, tried on one sample."""
