"""Fixtures live in ``tests/fixtures``, one file a subject, and nowhere else."""

pytest_plugins = ["tests.fixtures.databases", "tests.fixtures.models"]
