"""Experiments: arms on tasks with seeds, as jobs, compared with each other."""
