"""Fixtures live in ``tests/fixtures``, one file a subject, and nowhere else."""

pytest_plugins = [
    "tests.fixtures.broker",
    "tests.fixtures.databases",
    "tests.fixtures.models",
    "tests.fixtures.workers",
]
