"""Metrics as the API's description has them; ``app.metrics.service`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind


class SeriesName(BaseModel):
    """An available series, with its last point."""

    object: Kind[Literal["fine_tuning.job.metric_series"]]
    name: str = Field(
        description="Name of the metric, such as train/N/reward, as explained in the metrics reference"
    )
    last_step: int = Field(description="The latest step with a value")
    last_value: float = Field(description="The value at that step")


class Point(BaseModel):
    """A value at a step."""

    step: int = Field(description="Training steps done; an evaluation before training has 0")
    value: float = Field(description="In the metric's own unit")


class Series(BaseModel):
    """A series' points; if there are very many, those that keep its shape and extremes."""

    object: Kind[Literal["fine_tuning.job.metric_series"]]
    name: str = Field(description="Name of the metric, as requested")
    points: list[Point] = Field(description="Values in the order of steps")
    total_points: int = Field(description="Number of points before thinning")
    downsampled: bool = Field(description="Whether points were thinned to max_points")


class SeriesList(BaseModel):
    """The list of series without ``name``, their points with it."""

    object: Kind[Literal["list"]]
    data: list[SeriesName] | list[Series] = Field(description="One element per series")
