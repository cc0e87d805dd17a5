"""How both modes are evaluated, and the presets of its sampling. Torch-free."""

from typing import Literal, cast

from pydantic import Field, model_validator

from trainer.graders.spec import StrictModel

EVALUATION_PRESETS: dict[str, dict[str, object]] = {
    "paper": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "samples_per_item": 8},
    "greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": None, "samples_per_item": 1},
}


class EvaluationSpec(StrictModel):
    """Evaluation of both modes on the validation data; also at the first and the last step."""

    interval: int = Field(
        default=0, ge=0, lt=2**31, description="Steps between evaluations; 0: only first and last"
    )
    max_items: int = Field(
        default=64, ge=1, le=10_000_000, description="Number of validation items to evaluate, from the first"
    )
    samples_per_item: int = Field(default=1, ge=1, le=1_000_000, description="Responses per item and mode")
    token_metric_samples: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How many of these to measure token by token (entropy, divergence of the modes), "
        "which takes longer than sampling; default: all",
    )
    temperature: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Sampling temperature in evaluation; 0: always the most likely token",
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Sample from the most likely tokens with this total probability"
    )
    top_k: int | None = Field(
        default=None, ge=1, lt=2**31, description="Sample from this many most likely tokens"
    )
    preset: Literal["paper", "greedy"] | None = Field(
        default=None,
        description="Sampling settings by name: the paper's evaluation (temperature 0.6, top-p 0.95, top-k "
        "20, 8 samples per item), or greedy (temperature 0, 1 sample)",
    )

    embedding_model: str | None = Field(
        default=None,
        min_length=1,
        description="Folder (in a job: name) of a text encoder that measures how much an item's responses "
        "differ in meaning; it is not trained",
    )
    answer_similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="With embedding_model, if the grader does not extract answers: cosine from which two "
        "responses count as the same answer, for maj@k and distinct_right@k",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, object]", values)
        name = given.get("preset")
        if not isinstance(name, str) or name not in EVALUATION_PRESETS:
            return given
        preset = EVALUATION_PRESETS[name]
        for key, value in preset.items():
            if key in given and given[key] != value:
                raise ValueError(
                    f"preset {name!r} sets {key} to {value}, but {key} is {given[key]}: leave one out"
                )
        return given | preset
