"""Runs a job's attempts: start and supervise the trainer, relay its events, classify its end."""
