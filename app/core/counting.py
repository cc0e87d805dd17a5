"""What this process has counted, for Prometheus: one registry, or one of all processes that share a folder.

Whatever counts, anywhere in the service, does it in :data:`COUNTED`. Where several processes answer at one
port, ``PROMETHEUS_MULTIPROC_DIR`` names a folder in which each keeps its numbers, and each tells of all.
"""

import os

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

COUNTED = CollectorRegistry()
#: From a row of the database to a checkpoint that is fetched.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: From a step of a small model to one of a large one.
LONG_SECONDS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)


def told() -> bytes:
    """All of it in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(COUNTED)
    shared = CollectorRegistry()
    MultiProcessCollector(shared)
    return generate_latest(shared)
