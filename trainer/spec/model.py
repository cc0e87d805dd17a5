"""What a run trains: a model, and adapters in it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainer.graders.spec import StrictModel

LogitsDtype = Literal["float32", "model"]


class ModelSpec(StrictModel):
    """A model folder in Hugging Face format: a base, or the checkpoint of an earlier run."""

    path: str
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Precision of the weights; the optimizer keeps float32 masters"
    )
    logits_dtype: LogitsDtype = Field(
        default="float32",
        description="float32: bfloat16 hidden states and weights are multiplied with float32 results; "
        "model: logits are first rounded to dtype (trainer.model.logprobs has the cost)",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only the inputs of layers and recompute the layers in the backward pass",
    )


class LoraSpec(StrictModel):
    """Low-rank adapters (arXiv 2106.09685) trained in place of the weights: W + alpha/rank * B A, B from 0.

    A usual learning rate is ten times that of full fine-tuning.
    """

    rank: int = Field(
        default=16,
        ge=1,
        le=65_536,
        description="Rank of the adapters; higher ranks learn more and take more memory",
    )
    alpha: float = Field(
        default=32.0,
        gt=0,
        le=1e6,
        description="Scale of the adapters: alpha/rank times their product is added to the weights",
    )
    dropout: float = Field(
        default=0.0, description="Must be 0, so that the trained policy is the one that sampled"
    )
    target_modules: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        min_length=1,
        description="Names of linear layers, such as q_proj; default: all but the output layer",
    )

    @field_validator("dropout")
    @classmethod
    def _no_dropout(cls, value: float) -> float:
        if value != 0:
            raise ValueError(
                f"lora.dropout is {value}, but with dropout the trained policy differs from the one that "
                "sampled: give 0"
            )
        return value
