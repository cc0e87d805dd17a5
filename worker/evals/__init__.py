"""Runs evals: items are asked and graded, some at a time, beside the worker's jobs."""
