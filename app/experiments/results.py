"""An experiment's jobs as results of runs, and the analysis of them."""

import math
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.core.db import read_session
from app.core.job_status import JobStatus
from app.core.strict_json import JsonObject
from app.core.tables import ExperimentRun, Job
from app.experiments import repository
from app.experiments.schemas import Arm, Definition
from app.experiments.service import found
from app.jobs.outcomes import outcomes_of
from app.series.repository import curves, curves_of_job, series
from trainer.statistics.run_results import (
    CURVES,
    DIAGNOSTICS,
    Analysis,
    Plan,
    Point,
    RunResult,
    RunStatus,
    summarised,
)
from trainer.statistics.synergy import CONTROLS

#: Points of a curve that a report reads of each run, about.
CURVE_POINTS = 200
_COSTS = {
    "train/samples_generated": "samples_generated",
    "train/tokens_generated": "tokens_generated",
    "train/tokens_trained": "tokens_trained",
    "train/step_seconds": "seconds",
}
_STATUS: dict[str, RunStatus] = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.QUEUED: "queued",
}


def report(project_id: str, experiment_id: str) -> Analysis:
    """The analysis of what there is by now; raises NotFound."""
    # scipy takes most of a second to import, which the start and all other requests should not wait for.
    from trainer.statistics.analysis import analyse

    with read_session() as session:
        experiment = found(session, project_id, experiment_id)
        about = {"id": experiment.id, "name": experiment.name, "created_at": int(experiment.created_at)}
        definition = Definition.model_validate(experiment.definition)
        runs = _run_results(session, repository.runs_of(session, experiment_id))
    return {"object": "experiment.report", "experiment": about, **analyse(plan_of(definition), runs)}


def plan_of(definition: Definition) -> Plan:
    """What is compared with what: as the request says, or by default."""
    method = definition.method
    baselines = definition.compare.baselines
    if baselines is None:
        baselines = [arm.name for arm in definition.arms if arm.name != method and not arm.exploratory]
    return Plan(
        arms=[arm.name for arm in definition.arms],
        tasks=[task.name for task in definition.tasks],
        seeds=definition.seeds,
        metric=definition.metric,
        mode=definition.mode,
        dev_items=definition.split.dev,
        method=method,
        baselines=baselines,
        against=definition.compare.against,
        controls=_controls(definition.arms),
        exploratory=[arm.name for arm in definition.arms if arm.exploratory],
        analyses=definition.compare.analyses,
        seeds_before=definition.seeds_before,
    )


def _controls(arms: Sequence[Arm]) -> dict[str, str]:
    """The arms that the synergy rule asks about; a freeze counts when it is halfway."""
    controls: dict[str, str] = {}
    for arm in arms:
        stem, _, moment = (arm.ablation or "").partition("@")
        if stem in CONTROLS and moment in ("", "50%") and not arm.exploratory:
            controls.setdefault(stem, arm.name)
    return controls


def _run_results(session: Session, rows: Sequence[tuple[ExperimentRun, Job | None]]) -> list[RunResult]:
    done = [job for _, job in rows if job is not None and job.status == JobStatus.SUCCEEDED]
    outcomes = outcomes_of(session, [job.id for job in done])
    results = []
    for run, job in rows:
        fields: JsonObject = {"arm": run.arm, "task": run.task, "seed": run.seed}
        if job is None:
            status: RunStatus = "waiting" if run.error is None else "failed"
            results.append(RunResult(**fields, status=status, error=_words(run.error)))
            continue
        status = _STATUS.get(job.status, "running")
        fields |= {"id": job.id, "status": status, "error": _words(job.error), **_costs(session, job.id)}
        if status == "succeeded" and job.id not in outcomes:
            fields |= {"status": "failed", "error": "the job has no per-item evaluation"}
        elif status == "succeeded":
            curves, diagnostics = summarised(_series(session, job))
            fields |= {"outcomes": outcomes[job.id], "curves": curves, "diagnostics": diagnostics}
        results.append(RunResult(**fields))
    return results


def _words(error: JsonObject | None) -> str | None:
    return None if error is None else f"{error.get('code')}: {error.get('message')}"


def _costs(session: Session, job_id: str) -> dict[str, float]:
    found = curves_of_job(session, job_id, list(_COSTS))
    return {_COSTS[name]: math.fsum(curve.values) for name, curve in found.items()}


def _series(session: Session, job: Job) -> dict[str, list[Point]]:
    """What a report draws or shows of a job; long training series at every so many steps."""
    stride = math.ceil(max(job.total_steps, 1) / CURVE_POINTS)
    wanted = {
        number: name
        for number, name in series(session, job.id)
        if name in CURVES or name.startswith(DIAGNOSTICS)
    }
    return {
        wanted[number]: [
            (step, value)
            for step, value in curve.pairs()
            if not wanted[number].startswith("train/") or step % stride == 0 or step == job.total_steps
        ]
        for number, curve in curves(session, list(wanted)).items()
    }
