"""Whether the GPUs that a job asks for suit the rest of it, and whether workers have them."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.core.errors import BadRequest
from app.core.fleet import Block, blocks, counted
from app.core.live_workers import live_training_workers
from app.core.tables import TrainingWorker
from app.jobs.schemas import CreateJob
from trainer.errors import InvalidSpec
from trainer.spec.memory_plan import Device, memory_options, memory_plan, refusal
from trainer.spec.model_size import model_size
from trainer.spec.resources import DEFAULT_RESOURCES, Resources
from trainer.spec.run import RunSpec
from trainer.spec.taught import Taught

_ONE_GPU = DEFAULT_RESOURCES.as_started()


def on_resources(request: CreateJob, run: RunSpec) -> RunSpec:
    """The run on what the request asks for, its launcher resolved. Raises BadRequest naming the field."""
    asked = request.resources
    for field in ("rollout_gpus", "tensor_parallel"):
        value, default = getattr(asked, field), getattr(DEFAULT_RESOURCES, field)
        if value == default:
            continue
        if isinstance(run.algorithm, Taught):
            problem = f"a {run.algorithm.type} job does not sample: leave it out"
        elif run.rollout.engine == "transformers":
            problem = "rollout.engine is 'transformers', which has no GPUs of its own: give 'vllm' or 'auto'"
        else:
            continue
        raise BadRequest(
            f"Invalid value for 'resources.{field}': {value}, but {problem}.", param=f"resources.{field}"
        )
    # A single GPU is left out, so that an older worker can read the run.
    return run if asked.as_started() == _ONE_GPU else run.model_copy(update={"resources": asked.as_started()})


def check_fleet(session: Session, resources: Resources) -> None:
    """Raise BadRequest, saying what there is, for what no connected worker could ever run.

    If none is connected this is unknown: the job waits for one.
    """
    fleet = blocks(session)
    if resources.started_by == "ray":
        if not fleet or _of_clusters(fleet, resources):
            return
        field, value = ("nodes", resources.nodes) if resources.nodes > 1 else ("launcher", "'ray'")
        raise BadRequest(
            f"Invalid value for 'resources.{field}': {value}. That requires a Ray cluster, but none is "
            "connected. "
            f"{_largest(session)}: give gpus that one worker has, nodes 1 and launcher 'auto'.",
            param=f"resources.{field}",
        )
    if fleet and resources.of_a_worker > max(block.gpus for block in fleet):
        raise BadRequest(
            f"Invalid value for 'resources.gpus': {resources.gpus}. {_largest(session)}, and no Ray cluster "
            "is connected: give at most that many, or connect a larger worker.",
            param="resources.gpus",
        )


def check_memory(session: Session, run: RunSpec) -> None:
    """Raise BadRequest, with what the memory is for, if it certainly fits no connected worker.

    If none is connected, one does not say how much it has, or the model is not on this machine, the run's
    trainer is the first that can tell. So it is on a Ray cluster, whose hosts are not asked.
    """
    workers = live_training_workers(session)
    if run.resources.started_by == "ray" or not workers:
        return
    devices = [_device(worker) for worker in workers]
    if any(device is None for device in devices):
        return
    try:
        size = model_size(Path(run.model.path))
    except InvalidSpec:
        return
    ranks = run.resources.ranks
    sharded = ranks > 1 and run.optimizer.sharding == "sharded"
    problems: list[tuple[int, str]] = []
    for device in filter(None, devices):
        options = memory_options(run, size, device, ranks, sharded)
        problem = refusal(memory_plan(run, size, device, ranks, sharded), device, options)
        if problem is None:
            return
        problems.append((device.memory_bytes or 0, problem))
    _, problem = max(problems)
    where = "on the worker" if len(problems) == 1 else f"on the largest of {len(problems)} workers"
    raise BadRequest(f"Invalid value for 'model': {where}, {problem}.", param="model")


def _device(worker: TrainingWorker) -> Device | None:
    """What a process of a job has there, at the most; None: the worker does not say."""
    if worker.memory is None:
        return None
    if not worker.gpus:
        return Device(memory_bytes=worker.memory["host_bytes"])
    found = worker.memory["gpu_bytes"]
    return Device(cpu=False, memory_bytes=max(found)) if found else None


def _of_clusters(fleet: Sequence[Block], resources: Resources) -> bool:
    """Whether a worker has a Ray cluster; raises BadRequest where none of them has so much."""
    clusters = [block.worker.ray for block in fleet if block.worker.ray is not None]
    if not clusters or any(one["problem"] is not None for one in clusters):
        return bool(clusters)  # unknown for one that does not answer: the job waits for it
    each = resources.gpus // resources.nodes
    if any(sum(has >= each for has in one["hosts"]) >= resources.nodes for one in clusters):
        return True
    unit = clusters[0]["device"].upper() + "s"
    has = "; ".join(", ".join(map(str, one["hosts"])) or "none" for one in clusters)
    raise BadRequest(
        f"Invalid value for 'resources.gpus': {resources.gpus}, on {resources.nodes} hosts of a Ray cluster. "
        f"The hosts have this many {unit}: {has}. Give fewer gpus, or more nodes.",
        param="resources.gpus",
    )


def _largest(session: Session) -> str:
    """``The largest of 3 workers has 8 GPUs``."""
    fleet = blocks(session)
    if not fleet:
        return "No worker is connected"
    most = counted(max(block.gpus for block in fleet), [block.worker for block in fleet])
    return f"The largest of {len(fleet)} workers has {most}" if len(fleet) > 1 else f"The worker has {most}"
