"""Metrics as the API's description has them; ``app.metrics.service`` makes them."""

from typing import Literal

from pydantic import BaseModel


class SeriesName(BaseModel):
    """A series that there is, with its last point."""

    object: Literal["fine_tuning.job.metric_series"]
    name: str
    last_step: int
    last_value: float


class Point(BaseModel):
    """A value at a step."""

    step: int
    value: float


class Series(BaseModel):
    """A series' points, or, of very many, those that keep its shape and extremes."""

    object: Literal["fine_tuning.job.metric_series"]
    name: str
    points: list[Point]
    total_points: int
    downsampled: bool


class SeriesList(BaseModel):
    """Names without ``name``, points with it."""

    object: Literal["list"]
    data: list[SeriesName] | list[Series]
