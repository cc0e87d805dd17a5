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
        default=0, ge=0, lt=2**31, description="Every how many steps; 0: first and last only"
    )
    max_items: int = Field(
        default=64, ge=1, le=10_000_000, description="Validation items that are evaluated, from the first"
    )
    samples_per_item: int = Field(
        default=1, ge=1, le=1_000_000, description="Responses to each item in each mode"
    )
    token_metric_samples: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Of these so many are measured token by token (entropy, divergence of the modes), which "
        "takes longer than to sample them; default: all",
    )
    temperature: float = Field(
        default=1.0, ge=0, le=100, description="Of sampling in evaluation; 0: always the likeliest token"
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Sample among the likeliest tokens that together have this much"
    )
    top_k: int | None = Field(
        default=None, ge=1, lt=2**31, description="Sample among this many likeliest tokens"
    )
    preset: Literal["paper", "greedy"] | None = Field(
        default=None,
        description="Sampling settings by name: the paper's evaluation (temperature 0.6, top-p 0.95, top-k "
        "20, 8 samples an item), or greedy (temperature 0, 1 sample)",
    )

    embedding_model: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of an encoder of text (in a job: its name) that measures how different the "
        "meanings of an item's responses are; it stays as it is, unlike the model that is trained",
    )
    answer_similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="With embedding_model, where the grader does not say what a response answers: from which "
        "cosine on two responses are the same answer, for maj@k and distinct_right@k",
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
