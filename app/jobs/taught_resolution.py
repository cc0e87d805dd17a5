"""From a request to learn from rows to what will run; as in ``app.jobs.resolution``.

=========================  ==============================  ==========================================
OpenAI's hyperparameter    the same thing of ours          auto
=========================  ==============================  ==========================================
batch_size                 algorithm.batch_size            0.2 % of the rows, from 8 to 256
n_epochs                   budget.steps                    3; more for few rows, fewer for many
learning_rate_multiplier   optimizer.learning_rate         1, times 1e-5, with adapters 1e-4; of dpo a
                                                           tenth of that
beta                       algorithm.beta                  0.1
=========================  ==============================  ==========================================

Epochs are those that the hosted service was documented to choose: at least 100 rows are seen if 25 epochs are
enough for that, and 25,000 at most.
"""

import math

from app.core.errors import BadRequest
from app.core.strict_json import JsonObject
from app.jobs.agreement import Agreement, tidy, value_of
from app.jobs.methods import Dpo, Supervised
from app.jobs.resolved import Resolved
from app.models.catalog import Weights
from trainer.spec.data import Data
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.run import CheckpointSpec
from trainer.spec.taught import Dpo as DpoSpec
from trainer.spec.taught import Supervised as SupervisedSpec

#: By method, of all weights and with adapters: these begin at zero and are small, and need larger steps.
LEARNING_RATES = {"supervised": (1e-5, 1e-4), "dpo": (1e-6, 1e-5)}


def auto_epochs(rows: int) -> int:
    """How often rows are gone through, unless it is said."""
    if 3 * rows < 100:
        return min(25, 100 // rows)
    return max(1, 25_000 // rows) if 3 * rows > 25_000 else 3


def auto_batch_size(rows: int) -> int:
    """How many rows a step has, unless it is said."""
    return min(rows, max(8, min(256, round(0.002 * rows))))


def resolve_taught(
    ours: Supervised | Dpo,
    *,
    job_id: str,
    model: Weights,
    training: Data,
    training_rows: int,
    validation: Data | None,
    seed: int,
) -> Resolved:
    """Fill in the blanks. Raises BadRequest naming the field that does not fit."""
    given, kind = ours.hyperparameters, "supervised" if isinstance(ours, Supervised) else "dpo"
    same = Agreement(f"method.{kind}")
    batch = value_of(given.batch_size) or auto_batch_size(training_rows)
    if batch > training_rows:
        param = f"{same.param}.hyperparameters.batch_size"
        raise BadRequest(
            f"Invalid value for '{param}': {batch}. The training data has {training_rows} rows, and those "
            f"of a step must differ: give a number from 1 to {training_rows}.",
            param=param,
        )
    steps, epochs = same.steps(
        ours.budget.steps, value_of(given.n_epochs), auto_epochs(training_rows), training_rows, batch
    )
    base = LEARNING_RATES[kind][ours.lora is not None]
    multiplier = value_of(given.learning_rate_multiplier)
    rate = same.agreed(
        ours.optimizer,
        "optimizer.learning_rate",
        None if multiplier is None else multiplier * base,
        "learning_rate_multiplier",
    )
    optimizer = ours.optimizer.model_copy(update={"learning_rate": base if rate is None else rate})
    epoch = math.ceil(training_rows / batch)
    interval = epoch if ours.evaluation.interval is None else ours.evaluation.interval
    checkpoint = _checkpoint(ours, interval, validation)
    run_spec = same.run_spec(
        ours,
        model,
        run_id=job_id,
        training_data=training,
        validation_data=validation,
        grader=None,
        algorithm=_algorithm(ours, batch),
        optimizer=optimizer,
        evaluation=EvaluationSpec(interval=interval),
        checkpoint=checkpoint,
        total_steps=steps,
        seed=seed,
    )
    shown = {
        **ours.model_dump(mode="json"),
        "hyperparameters": {
            "batch_size": batch,
            "n_epochs": epochs,
            "learning_rate_multiplier": tidy(optimizer.learning_rate / base),
            **({} if isinstance(ours, Supervised) else {"beta": _beta(ours)}),
        },
        "optimizer": optimizer.model_dump(mode="json"),
        "evaluation": {"interval": interval},
        "checkpoint": checkpoint.model_dump(mode="json"),
        "budget": {**ours.budget.model_dump(exclude_none=True), "steps": steps},
    }
    return Resolved({"type": kind, kind: shown}, run_spec)


def _algorithm(ours: Supervised | Dpo, batch: int) -> SupervisedSpec | DpoSpec:
    rows: JsonObject = {
        "batch_size": batch,
        "max_tokens": ours.max_tokens,
        "overlong_rows": ours.overlong_rows,
    }
    if isinstance(ours, Supervised):
        return SupervisedSpec(modes=ours.modes, **rows)
    return DpoSpec(beta=_beta(ours), **rows)


def _beta(ours: Dpo) -> float:
    return value_of(ours.hyperparameters.beta) or DpoSpec.model_fields["beta"].default


def _checkpoint(ours: Supervised | Dpo, interval: int, validation: Data | None) -> CheckpointSpec:
    """Unless told otherwise, one is saved as often as is evaluated, and the best of these is the result."""
    select = ours.checkpoint.select or ("last" if validation is None else "best")
    changes: dict[str, object] = {"select": select}
    if "interval" not in ours.checkpoint.model_fields_set:
        changes["interval"] = interval
    return ours.checkpoint.model_copy(update=changes)
