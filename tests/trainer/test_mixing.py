"""Which rows each kind of sharing makes."""

import pytest

from tests.fixtures.groups import H, N
from trainer.objective.mixing import Row, pair_rows

OWN = {Row(0, N, N), Row(1, H, H)}
H_TO_N, N_TO_H = Row(1, N, H), Row(0, H, N)


@pytest.mark.parametrize(
    ("sharing", "cross"),
    [
        ("both", {H_TO_N, N_TO_H}),
        ("h_to_n", {H_TO_N}),
        ("n_to_h", {N_TO_H}),
        ("none", set()),
        ("none_pooled", set()),
    ],
)
def test_rows(sharing, cross: set[Row]):
    rows = pair_rows([N, H], sharing)
    assert set(rows) == OWN | cross
    assert len(rows) == len(set(rows))
    assert {row for row in rows if row.cross} == cross
