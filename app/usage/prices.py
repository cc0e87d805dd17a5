"""What things cost: lists that the operator sets, each from a day on."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounting.counting import Amounts
from app.core.description import Kind
from app.core.tables import PriceList
from trainer.graders.spec import StrictModel

Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
_HOUR, _MILLION, _GB, _DAYS_OF_A_MONTH = 3600.0, 1e6, 1e9, 30.0


class Prices(StrictModel):
    """Price of each item, in the list's currency; items left out are free."""

    gpu_hour: Price = Field(default=0.0, description="Per GPU-hour, including failed attempts")
    hour: Price = Field(default=0.0, description="Per hour of an attempt, with or without GPUs")
    million_trained_tokens: Price = Field(default=0.0, description="Per million tokens trained on")
    million_input_tokens: Price = Field(default=0.0, description="Per million prompt tokens")
    million_output_tokens: Price = Field(default=0.0, description="Per million answer tokens")
    thousand_gradings: Price = Field(default=0.0, description="Per thousand graded responses")
    storage_gb_month: Price = Field(
        default=0.0, description="Per 10⁹ bytes of files and runs, kept for 30 days"
    )

    def amount(self, used: Amounts, storage_bytes: int) -> float:
        """What is due for a day's use, in the list's currency."""
        return (
            self.gpu_hour * used.gpu_seconds / _HOUR
            + self.hour * used.seconds / _HOUR
            + self.million_trained_tokens * used.trained_tokens / _MILLION
            + self.million_input_tokens * used.input_tokens / _MILLION
            + self.million_output_tokens * used.output_tokens / _MILLION
            + self.thousand_gradings * used.gradings / 1000
            + self.storage_gb_month * storage_bytes / _GB / _DAYS_OF_A_MONTH
        )


class SetPrices(Prices):
    """The body of ``POST /v1/prices``."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(
        description="Three capital letters, such as EUR"
    )
    since: Annotated[str, StringConstraints(pattern=r"^\d{4}-[01]\d-[0-3]\d$")] | None = Field(
        default=None,
        description="First day (UTC) it applies, such as 2026-12-01; default: today, or for the first "
        "list the beginning",
    )


class PriceListObject(BaseModel):
    """The prices in force."""

    object: Kind[Literal["price_list"]]
    currency: str | None = Field(description="Three letters; null: the operator has set no prices")
    since: str | None = Field(description="First day on which they apply; null: no prices")
    prices: Prices | None = Field(description="Price of each item; null: no prices")


def lists_until(session: Session, day: str) -> list[PriceList]:
    """The lists that are in force on this day or were before, the newest first."""
    query = select(PriceList).where(PriceList.since <= day).order_by(PriceList.since.desc())
    return list(session.scalars(query))


def view(row: PriceList | None) -> dict[str, object]:
    """A price list, or that there is none."""
    return {
        "object": "price_list",
        "currency": None if row is None else row.currency,
        "since": None if row is None else row.since,
        "prices": None if row is None else row.prices,
    }
