"""MLflow: one run a job, found again by its tag when a job goes on."""

import os
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from app.core.strict_json import JsonObject
from trainer.spec.metric_names import METRICS
from worker.integrations.sink import JobFacts, SetupFailed

_JOB_TAG = "policysplit.job_id"
_URI = "MLFLOW_TRACKING_URI"
#: Metrics below whose names others stand: MLflow's store of files can't have a file and a folder of one name.
_NAMES = [name for metric in METRICS for name in metric.names()]
TOTALS = frozenset(name for name in _NAMES if any(other.startswith(f"{name}/") for other in _NAMES))
_MOST_METRICS = 1000
_MOST_PARAMS = 100


class MlflowSink:
    """A run that is there."""

    def __init__(self, client: MlflowClient, run_id: str):
        self._client, self._run_id = client, run_id

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        metrics = [Metric(_named(name), value, int(time * 1000), step) for name, value in values.items()]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MOST_METRICS])

    def close(self, succeeded: bool) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if succeeded else "KILLED")


def open_sink(options: JsonObject, facts: JobFacts) -> MlflowSink:
    """Raises SetupFailed where no server is named, or it does not answer."""
    if not os.environ.get(_URI):
        raise SetupFailed(
            f"{_URI} is not set in the worker's environment: the operator must set it to the tracking server"
        )
    # Its own defaults try for minutes; a job would wait for all of them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        client = MlflowClient()
        return MlflowSink(client, _run(client, options, facts))
    except MlflowException as error:
        raise SetupFailed(f"the tracking server at {_URI} refused: {str(error)[:500]}") from error


def _named(name: str) -> str:
    return f"{name}/all" if name in TOTALS else name.replace("@", "_at_")


def _run(client: MlflowClient, options: JsonObject, facts: JobFacts) -> str:
    """The job's run, opened again or new."""
    name = options["experiment"]
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment is not None else client.create_experiment(name)
    known = client.search_runs([number], f"tags.`{_JOB_TAG}` = '{facts.job_id}'", max_results=1)
    if known:
        run_id = known[0].info.run_id
        client.set_terminated(run_id, "RUNNING")
        return run_id
    tags = {**(options.get("tags") or {}), **facts.metadata, _JOB_TAG: facts.job_id}
    run = client.create_run(number, tags=tags, run_name=options.get("run_name") or facts.job_id)
    params = [Param(key, str(value)[:500]) for key, value in _flat(facts.config)]
    for start in range(0, len(params), _MOST_PARAMS):
        client.log_batch(run.info.run_id, params=params[start : start + _MOST_PARAMS])
    client.log_batch(run.info.run_id, tags=[RunTag("policysplit.model", facts.model)])
    return run.info.run_id


def _flat(value: object, prefix: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [pair for key, child in value.items() for pair in _flat(child, f"{prefix}{key}.")]
    return [(prefix[:-1], value)]
