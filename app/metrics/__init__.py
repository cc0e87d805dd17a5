"""Metric series of a job."""
