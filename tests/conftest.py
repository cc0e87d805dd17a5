"""Fixtures live in ``tests/fixtures``, one file a subject, and nowhere else.

A file that imports another comes after it: pytest rewrites the assertions of what it loads first.
"""

pytest_plugins = [
    "tests.fixtures.api",
    "tests.fixtures.belongings",
    "tests.fixtures.broker",
    "tests.fixtures.browser",
    "tests.fixtures.databases",
    "tests.fixtures.http_server",
    "tests.fixtures.hub",
    "tests.fixtures.models",
    "tests.fixtures.engines",
    "tests.fixtures.outages",
    "tests.fixtures.receivers",
    "tests.fixtures.service",
    "tests.fixtures.vllm",
    "tests.fixtures.workers",
]
