"""Runs the short probes that estimates are made from."""
