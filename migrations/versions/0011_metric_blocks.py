"""Points of finished steps packed, many to a row.

Points that are there already stay as they are, and are read beside the blocks; those of a job that goes on
are packed with its next ones. Going back unpacks every block.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STEPS, _VALUE_BYTES = 240, 8


def upgrade() -> None:
    op.create_table(
        "metric_blocks",
        sa.Column(
            "series_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["metric_series.id"], name="fk_metric_blocks_series_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series_id", "number", name="pk_metric_blocks"),
    )


def downgrade() -> None:
    connection = op.get_bind()
    there = "SELECT 1 FROM metric_points WHERE series_id = :series AND step = :step"
    # A point that is a row counts before the same step's in a block.
    insert = sa.text(
        "INSERT INTO metric_points (series_id, step, value) "
        f"SELECT :series, :step, :value WHERE NOT EXISTS ({there})"
    )
    series = connection.execute(sa.text("SELECT DISTINCT series_id FROM metric_blocks")).scalars().all()
    blocks = sa.text("SELECT number, packed FROM metric_blocks WHERE series_id = :series")
    for one in series:
        for number, packed in connection.execute(blocks, {"series": one}).all():
            connection.execute(
                insert,
                [
                    {"series": one, "step": step, "value": value}
                    for step, value in _unpacked(number, bytes(packed))
                ],
            )
    op.drop_table("metric_blocks")


def _unpacked(number: int, packed: bytes) -> list[tuple[int, float]]:
    whole = len(packed) == _STEPS * _VALUE_BYTES
    offsets = range(_STEPS) if whole else packed[: len(packed) // (1 + _VALUE_BYTES)]
    values = memoryview(packed[len(packed) - len(offsets) * _VALUE_BYTES :]).cast("d")
    return [(number * _STEPS + offset, value) for offset, value in zip(offsets, values, strict=True)]
