"""Where else a job's metrics go: the ``integrations`` of a job. OpenAI's is ``wandb``; the others are ours.

They contain no secrets: keys and addresses are in the worker's environment, under the names that the
libraries use (``WANDB_API_KEY``, ``WANDB_BASE_URL``, ``MLFLOW_TRACKING_URI`` and so on).
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from trainer.graders.spec import StrictModel

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f/\\:]*$")]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class WandbOptions(StrictModel):
    """OpenAI's options, all of them."""

    project: Name = Field(description="Name of the project for the run")
    name: Name | None = Field(default=None, description="Name of the run; default: the job's id")
    entity: Name | None = Field(default=None, description="Team or user; default: that of the worker's key")
    tags: list[Tag] | None = Field(default=None, max_length=32, description="Labels of the run, up to 32")


class WandbIntegration(StrictModel):
    """Weights & Biases."""

    type: Literal["wandb"] = Field(description="Sends the job's metrics to Weights & Biases")
    wandb: WandbOptions = Field(description="Destination in Weights & Biases")


class MlflowOptions(StrictModel):
    """A run in an experiment of the worker's tracking server."""

    experiment: Name = Field(description="Name of the experiment for the run; created if necessary")
    run_name: Name | None = Field(default=None, description="Name of the run; default: the job's id")
    tags: dict[Tag, Annotated[str, StringConstraints(max_length=512)]] | None = Field(
        default=None, max_length=32, description="Up to 32 named labels of the run"
    )


class MlflowIntegration(StrictModel):
    """MLflow."""

    type: Literal["mlflow"] = Field(description="Sends the job's metrics to MLflow")
    mlflow: MlflowOptions = Field(description="Destination in MLflow")


class TensorboardOptions(StrictModel):
    """None: the event files are in ``runs/<job id>/tensorboard`` of the data directory."""


class TensorboardIntegration(StrictModel):
    """TensorBoard."""

    type: Literal["tensorboard"] = Field(description="Writes the job's metrics as TensorBoard event files")
    tensorboard: TensorboardOptions = Field(default_factory=TensorboardOptions, description="Has no settings")


Integration = Annotated[
    WandbIntegration | MlflowIntegration | TensorboardIntegration, Field(discriminator="type")
]
