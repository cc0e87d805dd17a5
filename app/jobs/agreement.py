"""One thing under two names, OpenAI's and ours: giving both is fine when they agree, refused when not."""

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.core.errors import BadRequest
from app.core.validation import bad_request
from app.jobs.methods import Training
from app.models.catalog import Weights
from trainer.spec.model import ModelSpec
from trainer.spec.run import RunSpec

MAX_STEPS = 2**31 - 1
Number = TypeVar("Number", int, float)


class Agreement:
    """Of the settings below ``param``, such as ``method.reinforcement``."""

    def __init__(self, param: str):
        self.param = param

    def agreed(self, block: BaseModel, name: str, theirs: Number | None, openai_name: str) -> Number | None:
        """What either of two names for one thing says, None when neither does."""
        key = name.rpartition(".")[2]
        if key not in block.model_fields_set:
            return theirs
        value = getattr(block, key)
        if theirs is not None and not math.isclose(theirs, value, rel_tol=1e-9):
            self.conflict(openai_name, f"{theirs:g}", name, f"{value:g}")
        return value

    def conflict(self, openai_name: str, theirs: str, name: str, value: str) -> None:
        """Raise BadRequest."""
        param = f"{self.param}.hyperparameters.{openai_name}"
        raise BadRequest(
            f"'{param}' ({theirs}) and '{self.param}.{name}' ({value}) contradict each other: give one of "
            "them.",
            param=param,
            code="conflicting_parameters",
        )

    def named(self, block: BaseModel, name: str, openai_name: str) -> str:
        """The name that the request used: ours where it was given, else OpenAI's."""
        ours = name.rpartition(".")[2] in block.model_fields_set
        return f"{self.param}.{name}" if ours else f"{self.param}.hyperparameters.{openai_name}"

    def steps(
        self, given: int | None, epochs: int | None, default_epochs: int, rows: int, batch: int
    ) -> tuple[int, int]:
        """Steps of the run, and epochs: those asked for, or what ``budget.steps``, ``given``, amounts to,
        rounded up."""
        from_epochs = math.ceil(rows * (epochs or default_epochs) / batch)
        if given is not None and epochs is not None and given != from_epochs:
            self.conflict(
                "n_epochs", f"{epochs}, which makes {from_epochs} steps", "budget.steps", str(given)
            )
        steps = from_epochs if given is None else given
        if steps > MAX_STEPS:
            param = f"{self.param}.hyperparameters.n_epochs"
            raise BadRequest(
                f"Invalid value for '{param}': it makes {steps} steps, more than {MAX_STEPS}.", param=param
            )
        if given is None:
            return steps, epochs or default_epochs
        return steps, epochs or math.ceil(steps * batch / rows)

    def run_spec(self, ours: Training, model: Weights, **parts: Any) -> RunSpec:
        """The run: the settings that every method has, and the ``parts`` of one, which may say them anew.

        Raises BadRequest for what does not fit together.
        """
        parts = {
            "model": ModelSpec(
                path=model.place,
                dtype=ours.dtype,
                logits_dtype=ours.logits_dtype,
                gradient_checkpointing=ours.gradient_checkpointing,
            ),
            "high_entropy_prompt": ours.high_entropy_prompt,
            "high_entropy_placement": ours.high_entropy_placement,
            "chat_template_kwargs": ours.chat_template_kwargs,
            "lora": ours.lora,
            **parts,
        }
        try:
            return RunSpec(**parts)
        except ValidationError as error:
            raise bad_request(error.errors(include_url=False), parts, RunSpec, prefix=self.param) from None


def value_of(given: object) -> Any:
    """None for "auto"."""
    return None if given == "auto" else given


def tidy(number: float) -> float:
    """Without the last digits that a division leaves behind."""
    return float(f"{number:.12g}")
