"""From a request to what will run: every "auto" gets its value, and the result must be a valid RunSpec.

=========================  ==============================  ==========================================
OpenAI's hyperparameter    the same thing of ours          auto
=========================  ==============================  ==========================================
batch_size                 rollout.prompts_per_step        8, or the number of rows if that is less
n_epochs                   budget.steps                    1 epoch: rows / batch_size steps, rounded up
learning_rate_multiplier   optimizer.learning_rate         1, times 3e-6
compute_multiplier         rollout.samples_per_prompt      1, times 8
eval_interval              evaluation.interval             a tenth of the steps; 0 without validation data
eval_samples               evaluation.samples_per_item     1
=========================  ==============================  ==========================================

Giving both columns is fine when they agree and refused when they do not. What the methods that learn from
rows have of these is in ``app.jobs.taught_resolution``.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from app.core.errors import BadRequest
from app.core.strict_json import JsonObject
from app.jobs.agreement import Agreement, tidy, value_of
from app.jobs.methods import Reinforcement
from app.jobs.resolved import Resolved
from app.jobs.schemas import CreateJob
from app.jobs.taught_resolution import resolve_taught
from app.models.catalog import Weights
from trainer.graders.spec import Grader, MultiGrader
from trainer.spec.chat_template import EFFORT, chat_template, effort_switch
from trainer.spec.data import Data
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.run import CheckpointSpec, OptimizerSpec, RolloutSpec, check_group

BASE_LEARNING_RATE: float = OptimizerSpec.model_fields["learning_rate"].default
BASE_SAMPLES: int = RolloutSpec.model_fields["samples_per_prompt"].default
BASE_PROMPTS: int = RolloutSpec.model_fields["prompts_per_step"].default
_PARAM = "method.reinforcement"
_SAME = Agreement(_PARAM)


def resolve(
    request: CreateJob,
    *,
    job_id: str,
    model: Weights,
    encoder: str | None = None,
    training: Data,
    training_rows: int,
    validation: Data | None,
    seed: int,
) -> Resolved:
    """Fill in the blanks. Raises BadRequest naming the field that does not fit."""
    ours = request.method.settings
    if not isinstance(ours, Reinforcement):
        return resolve_taught(
            ours,
            job_id=job_id,
            model=model,
            training=training,
            training_rows=training_rows,
            validation=validation,
            seed=seed,
        )
    rollout = _rollout(ours, training_rows)
    steps, epochs = _SAME.steps(
        ours.budget.steps,
        value_of(ours.hyperparameters.n_epochs),
        1,
        training_rows,
        rollout.prompts_per_step,
    )
    optimizer = _optimizer(ours)
    evaluation = _evaluation(ours, steps, validation)
    checkpoint = _checkpoint(ours, evaluation, validation)
    template_options, notes = _template_options(ours, model.path)
    run_spec = _SAME.run_spec(
        ours,
        model,
        run_id=job_id,
        training_data=training,
        validation_data=validation,
        grader=ours.grader,
        response_format=ours.response_format,
        algorithm=ours.algorithm,
        chat_template_kwargs=template_options,
        rollout=rollout,
        optimizer=optimizer,
        evaluation=evaluation.model_copy(update={"embedding_model": encoder}),
        checkpoint=checkpoint,
        diagnostics=ours.diagnostics,
        preflight=ours.preflight,
        overlong_prompts=ours.overlong_prompts,
        guards=ours.guards,
        total_steps=steps,
        seed=seed,
    )
    given = ours.hyperparameters
    hyperparameters = {
        "batch_size": rollout.prompts_per_step,
        "n_epochs": epochs,
        "learning_rate_multiplier": tidy(optimizer.learning_rate / BASE_LEARNING_RATE),
        "compute_multiplier": tidy(rollout.samples_per_prompt / BASE_SAMPLES),
        "eval_interval": evaluation.interval,
        "eval_samples": evaluation.samples_per_item,
        "reasoning_effort": given.reasoning_effort or "default",
    }
    shown = {
        **ours.model_dump(mode="json"),
        "hyperparameters": hyperparameters,
        "rollout": rollout.model_dump(mode="json"),
        "optimizer": optimizer.model_dump(mode="json"),
        "evaluation": evaluation.model_dump(mode="json"),
        "checkpoint": checkpoint.model_dump(mode="json"),
        "chat_template_kwargs": dict(template_options),
        "budget": {**ours.budget.model_dump(exclude_none=True), "steps": steps},
    }
    notes += tuple(_thresholds(ours.grader))
    return Resolved({"type": "reinforcement", "reinforcement": shown}, run_spec, notes)


def _template_options(ours: Reinforcement, model_path: Path) -> tuple[JsonObject, tuple[str, ...]]:
    """Variables of the chat template, with the effort as it has it; what is to be told of that."""
    effort, given = ours.hyperparameters.reasoning_effort, ours.chat_template_kwargs
    if effort in (None, "default"):
        return given, ()
    switch = effort_switch(chat_template(model_path) or "")
    told = f"hyperparameters.reasoning_effort is {effort!r}"
    if switch is None:
        note = f"{told}, which has no effect: the model's chat template has no switch for thinking."
        return given, (note,)
    value = effort if switch == EFFORT else True
    if given.get(switch, value) != value:
        _SAME.conflict("reasoning_effort", effort, f"chat_template_kwargs.{switch}", str(given[switch]))
    note = f"{told}: the model's chat template knows no degrees, so {switch} is true, as for any effort."
    return {**given, switch: value}, () if switch == EFFORT else (note,)


def _thresholds(grader: Grader) -> Iterator[str]:
    named = grader.named.values() if isinstance(grader, MultiGrader) else ()
    for one in (grader, *named):
        if one.pass_threshold is not None:
            yield f"pass_threshold of the grader {one.name!r} has no effect on its rewards."


def _rollout(ours: Reinforcement, rows: int) -> RolloutSpec:
    given = ours.hyperparameters
    prompts = _SAME.agreed(ours.rollout, "rollout.prompts_per_step", value_of(given.batch_size), "batch_size")
    if prompts is None:
        prompts = min(BASE_PROMPTS, rows)
    if prompts > rows:
        param = _SAME.named(ours.rollout, "rollout.prompts_per_step", "batch_size")
        raise BadRequest(
            f"Invalid value for '{param}': {prompts}. The training data has {rows} rows, and those of a "
            f"step must differ: give a number from 1 to {rows}.",
            param=param,
        )
    multiplier = value_of(given.compute_multiplier)
    samples = None if multiplier is None else multiplier * BASE_SAMPLES
    if samples is not None and (samples < 2 or samples != round(samples)):
        param = f"{_PARAM}.hyperparameters.compute_multiplier"
        raise BadRequest(
            f"Invalid value for '{param}': {multiplier}. Times {BASE_SAMPLES} it makes {samples:g} "
            f"samples per prompt; give a multiple of {1 / BASE_SAMPLES:g} from {2 / BASE_SAMPLES:g} up.",
            param=param,
        )
    samples = _SAME.agreed(
        ours.rollout,
        "rollout.samples_per_prompt",
        None if samples is None else round(samples),
        "compute_multiplier",
    )
    if samples is None:
        samples = BASE_SAMPLES
    try:
        check_group(ours.algorithm, samples)
    except ValueError as error:
        param = _SAME.named(ours.rollout, "rollout.samples_per_prompt", "compute_multiplier")
        if getattr(ours.algorithm, "high_entropy_samples", None) is not None:
            param = f"{_PARAM}.algorithm.high_entropy_samples"
        raise BadRequest(f"Invalid '{param}': {error}.", param=param) from None
    return ours.rollout.model_copy(update={"prompts_per_step": prompts, "samples_per_prompt": samples})


def _optimizer(ours: Reinforcement) -> OptimizerSpec:
    multiplier = value_of(ours.hyperparameters.learning_rate_multiplier)
    rate = None if multiplier is None else multiplier * BASE_LEARNING_RATE
    rate = _SAME.agreed(ours.optimizer, "optimizer.learning_rate", rate, "learning_rate_multiplier")
    return ours.optimizer if rate is None else ours.optimizer.model_copy(update={"learning_rate": rate})


def _evaluation(ours: Reinforcement, steps: int, validation: Data | None) -> EvaluationSpec:
    given = ours.hyperparameters
    interval = _SAME.agreed(
        ours.evaluation, "evaluation.interval", value_of(given.eval_interval), "eval_interval"
    )
    if interval and validation is None:
        param = _SAME.named(ours.evaluation, "evaluation.interval", "eval_interval")
        raise BadRequest(
            f"Invalid value for '{param}': {interval}. There is no validation data: give a "
            "'validation_file', or leave this out.",
            param=param,
        )
    if interval is None:
        interval = math.ceil(steps / 10) if validation is not None else 0
    samples = _SAME.agreed(
        ours.evaluation, "evaluation.samples_per_item", value_of(given.eval_samples), "eval_samples"
    )
    return ours.evaluation.model_copy(
        update={
            "interval": interval,
            "samples_per_item": ours.evaluation.samples_per_item if samples is None else samples,
        }
    )


def _checkpoint(ours: Reinforcement, evaluation: EvaluationSpec, validation: Data | None) -> CheckpointSpec:
    """Unless told otherwise, one is saved at each evaluation, and the best of these is the result."""
    select = ours.checkpoint.select or ("last" if validation is None else "best")
    changes: dict[str, object] = {"select": select}
    if "interval" not in ours.checkpoint.model_fields_set:
        changes["interval"] = evaluation.interval
    return ours.checkpoint.model_copy(update=changes)
