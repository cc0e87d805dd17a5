"""Sampled responses of a job."""
