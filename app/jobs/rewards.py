"""The newest rewards of a job in each mode, which lists can be in the order of."""

import math
from collections.abc import Mapping

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.core.tables import JobReward

#: By column, the metric that it is the last value of.
REWARDS = {"normal": "train/N/reward", "high_entropy": "train/H/reward"}


def record_rewards(session: Session, job_id: str, steps: Mapping[int, Mapping[str, float]]) -> None:
    """Note the rewards of the newest of ``steps`` that has them, as finite numbers.

    The caller holds the job's row.
    """
    newest: dict[str, float] = {}
    for column, name in REWARDS.items():
        known = [step for step, values in steps.items() if math.isfinite(values.get(name, math.nan))]
        if known:
            newest[column] = steps[max(known)][name]
    if newest:
        statement = update(JobReward).where(JobReward.job_id == job_id).values(newest)
        session.execute(statement.execution_options(synchronize_session=False))
