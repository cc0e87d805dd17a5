"""Metrics as the API's description has them; ``app.metrics.service`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Kind


class SeriesName(BaseModel):
    """A series that there is, with its last point."""

    object: Kind[Literal["fine_tuning.job.metric_series"]]
    name: str = Field(
        description="Name of the metric, such as train/N/reward; what it means is in the reference of metrics"
    )
    last_step: int = Field(description="The latest step that has a value")
    last_value: float = Field(description="The value at that step")


class Point(BaseModel):
    """A value at a step."""

    step: int = Field(description="Training steps done; an evaluation before training is at 0")
    value: float = Field(description="In the metric's own unit")


class Series(BaseModel):
    """A series' points, or, of very many, those that keep its shape and extremes."""

    object: Kind[Literal["fine_tuning.job.metric_series"]]
    name: str = Field(description="Name of the metric, as it was asked for")
    points: list[Point] = Field(description="Values in the order of steps")
    total_points: int = Field(description="How many there are without thinning")
    downsampled: bool = Field(description="true: there are more than max_points, and only some are shown")


class SeriesList(BaseModel):
    """Names without ``name``, points with it."""

    object: Kind[Literal["list"]]
    data: list[SeriesName] | list[Series] = Field(description="One element a series")
