"""What takes a job's metrics in: one file a service, one dict as registry."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class SetupFailed(Exception):
    """It cannot work here, and why."""


@dataclass(frozen=True)
class JobFacts:
    """What a sink may say of the job."""

    job_id: str
    model: str
    run_dir: Path
    config: dict[str, object]
    metadata: dict[str, str]


class Sink(Protocol):
    """A service, set up. A failure of ``log`` or ``close`` costs the service alone, not the job."""

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """The metrics of a step; steps of an attempt that is done again come again."""
        ...

    def close(self, succeeded: bool) -> None:
        """There is no more; returns when everything has been handed over."""
        ...


#: Type of an integration: the module that has its ``open_sink(options, facts)``.
SINKS = {name: f"worker.integrations.{name}_sink" for name in ("wandb", "mlflow", "tensorboard")}


def open_sink(integration: Mapping[str, object], facts: JobFacts) -> Sink:
    """The sink of an entry of ``integrations``. Raises SetupFailed."""
    kind = str(integration["type"])
    try:
        module = importlib.import_module(SINKS[kind])
    except ImportError as error:
        raise SetupFailed(
            f"its package is not installed where the worker runs ({error}): "
            f"pip install 'policysplit[{kind}]', or leave the integration out"
        ) from error
    return module.open_sink(integration[kind], facts)
