"""Weights & Biases: one run a job, which a job that goes on resumes."""

import os
from collections.abc import Mapping

import wandb

from app.core.strict_json import JsonObject
from worker.integrations.sink import JobFacts, SetupFailed

_INIT_SECONDS = 60.0
_OFFLINE = ("offline", "dryrun", "disabled")


class WandbSink:
    """A run that is there."""

    def __init__(self, run: wandb.Run):
        self._run = run

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        # Not W&B's own step, which must not go back: a job that resumes does steps again.
        self._run.log({"step": step, **values})

    def close(self, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)


def open_sink(options: JsonObject, facts: JobFacts) -> WandbSink:
    """Raises SetupFailed without a key (unless offline), with one that is refused, or without an answer."""
    offline = os.environ.get("WANDB_MODE", "").lower() in _OFFLINE
    if not offline and not os.environ.get("WANDB_API_KEY"):
        raise SetupFailed(
            "WANDB_API_KEY is not set in the worker's environment: the operator must set it, or "
            "WANDB_MODE=offline"
        )
    facts.run_dir.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=options["project"],
            entity=options.get("entity"),
            name=options.get("name") or facts.job_id,
            tags=options.get("tags"),
            id=facts.job_id,
            resume=None if offline else "allow",
            dir=facts.run_dir,
            config={"model": facts.model, "metadata": facts.metadata, **facts.config},
            settings=wandb.Settings(
                init_timeout=_INIT_SECONDS, console="off", silent=True, x_disable_stats=True
            ),
        )
        run.define_metric("*", step_metric="step")
    except Exception as error:  # its errors have no common base that is public
        raise SetupFailed(f"W&B refuses: {str(error)[:500]}") from error
    return WandbSink(run)
