"""Whether the GPUs that a job asks for go together with the rest of it."""

from app.core.errors import BadRequest
from app.jobs.schemas import CreateJob
from trainer.spec.resources import DEFAULT_RESOURCES
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
            problem = f"a {run.algorithm.type} job samples nothing: leave it out"
        elif run.rollout.engine != "vllm":
            problem = (
                f"rollout.engine is {run.rollout.engine!r}, which has no engines of its own: give 'vllm'"
            )
        else:
            continue
        raise BadRequest(
            f"Invalid value for 'resources.{field}': {value}, but {problem}.", param=f"resources.{field}"
        )
    # One GPU stays unsaid, so that a worker of before reads the run.
    return run if asked.as_started() == _ONE_GPU else run.model_copy(update={"resources": asked.as_started()})
