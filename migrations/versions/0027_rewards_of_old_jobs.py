"""Jobs from before 0026 get their newest rewards, some at a time: from their points, packed or not."""

import struct
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.online import parts

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_COLUMNS = {"train/N/reward": "normal", "train/H/reward": "high_entropy"}
_ADD = sa.text(
    "INSERT INTO job_rewards (job_id, project_id) SELECT id, project_id FROM jobs "
    "WHERE id > :after AND id <= :last ON CONFLICT DO NOTHING"
)
_POINTS = sa.text(
    "SELECT s.job_id, s.name, p.step, p.value FROM metric_series AS s "
    "JOIN metric_points AS p ON p.series_id = s.id "
    "AND p.step = (SELECT max(step) FROM metric_points WHERE series_id = s.id) "
    "WHERE s.name IN :names AND s.job_id > :after AND s.job_id <= :last"
).bindparams(sa.bindparam("names", expanding=True))
_BLOCKS = sa.text(
    "SELECT s.job_id, s.name, b.number, b.packed FROM metric_series AS s "
    "JOIN metric_blocks AS b ON b.series_id = s.id "
    "AND b.number = (SELECT max(number) FROM metric_blocks WHERE series_id = s.id) "
    "WHERE s.name IN :names AND s.job_id > :after AND s.job_id <= :last"
).bindparams(sa.bindparam("names", expanding=True))
#: What a worker has written meanwhile is newer.
_FILL = {
    column: sa.text(f"UPDATE job_rewards SET {column} = :value WHERE job_id = :job_id AND {column} = -1e308")
    for column in _COLUMNS.values()
}
_STEPS, _VALUE = 240, struct.Struct("<d")


def upgrade() -> None:
    connection = op.get_bind()
    for part in parts("jobs", "id"):
        connection.execute(_ADD, part)
        asked = {**part, "names": list(_COLUMNS)}
        newest = {
            (job, name): _newest(number, packed)
            for job, name, number, packed in connection.execute(_BLOCKS, asked)
        }
        for job, name, step, value in connection.execute(_POINTS, asked):
            # A point that is a row counts before the same step's in a block.
            if step >= newest.get((job, name), (step, value))[0]:
                newest[job, name] = (step, value)
        for series, column in _COLUMNS.items():
            rows = [
                {"job_id": job, "value": value}
                for (job, name), (_, value) in newest.items()
                if name == series
            ]
            if rows:
                connection.execute(_FILL[column], rows)


def _newest(number: int, packed: Sequence[int]) -> tuple[int, float]:
    """The last step of a block and its value."""
    packed = bytes(packed)
    points = len(packed) // (1 + _VALUE.size)
    last = _STEPS - 1 if len(packed) == _STEPS * _VALUE.size else packed[points - 1]
    return number * _STEPS + last, _VALUE.unpack(packed[-_VALUE.size :])[0]


def downgrade() -> None:
    pass
