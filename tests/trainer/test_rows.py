"""Rows: which of their tokens have scores, and how they are divided into micro-batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.groups import N, load_tiny_policy, make_group
from trainer.model.packing import Layout, pack
from trainer.model.rows import ONE_RECTANGLE, Row, by_context, fits, micro_batches, row_positions
from trainer.model.scoring import group_rows, score_rows
from trainer.spec.modes import Mode

LAYOUTS: list[Layout] = ["shared_prefix", "per_row"]


def conversation(seed: int, context: int, masks: list[list[bool]]) -> list[Row]:
    """Rows of random tokens behind one context, with these masks."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(0, 200, (context,), generator=generator).tolist()
    return [
        Row(shared, torch.randint(0, 200, (len(mask),), generator=generator).tolist(), mask) for mask in masks
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trained_tokens_have_scores_and_the_others_are_read_alone(tiny_model, layout: Layout):
    """Against one unpadded pass a row of the whole model, in float64; gradients too."""
    policy = load_tiny_policy(tiny_model)
    rows = [
        *conversation(1, 3, [[True] * 4, [False, True, True, False, True], [False] * 2]),
        *conversation(2, 5, [[False, False, True]]),
        Row([7, 8], [9, 10, 11]),
        Row([7, 8], []),
    ]
    expected = []
    for row in rows:
        ids = [*row.context_ids, *row.response_ids]
        log_p = policy.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        mask = row.trained or [True] * len(row.response_ids)
        first = len(row.context_ids)
        expected += [log_p[first + t - 1, ids[first + t]] for t, trained in enumerate(mask) if trained]
    scores = score_rows(policy, rows, layout=layout)
    assert len(scores.logp_T) == sum(row.trained_tokens for row in rows) == 11
    assert scores.hidden_TD.shape == (11, policy.output_VD.shape[1])
    assert torch.allclose(scores.logp_T, torch.stack(expected), rtol=1e-7, atol=1e-9)
    weight_T = torch.linspace(-1, 1, 11, dtype=torch.float64)
    parameters = list(policy.model.parameters())
    found = torch.autograd.grad((scores.logp_T * weight_T).sum(), parameters)
    slow = torch.autograd.grad((torch.stack(expected) * weight_T).sum(), parameters)
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in zip(found, slow, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_rows_is_that_of_their_scores(tiny_model, layout: Layout):
    """Also where rows of one context stand apart, and some of their tokens are not trained."""
    policy = load_tiny_policy(tiny_model)
    one = conversation(1, 3, [[True] * 4, [False, True, True]])
    other = conversation(2, 5, [[True, False], [True] * 3])
    order = [one[0], other[1], one[1], other[0]]
    scores = score_rows(policy, order, layout=layout)
    alone = [score_rows(policy, [row], layout=layout) for row in order]
    assert torch.allclose(scores.logp_T, torch.cat([s.logp_T for s in alone]), rtol=1e-7, atol=1e-9)
    assert torch.allclose(scores.entropy_T, torch.cat([s.entropy_T for s in alone]), rtol=1e-7, atol=1e-9)


def test_without_rows_there_are_no_scores(tiny_model):
    policy = load_tiny_policy(tiny_model)
    scores = score_rows(policy, [])
    assert len(scores.logp_T) == len(scores.entropy_T) == len(scores.hidden_TD) == 0


def test_rows_of_one_context_share_it(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1, 0, 1], [N] * 3, lengths=[2, 3, 4])
    rows = group_rows(group, tuple(Mode))
    assert by_context(rows) == [[0, 1, 2], [3, 4, 5]]
    assert by_context(rows[::3] + rows[1::3]) == [[0, 2], [1, 3]]
    prompts = [len(group.prompt_ids[mode]) for mode in Mode]
    assert row_positions(rows) == sum(prompts) + 2 * 9
    assert row_positions(rows, "per_row") == 6 * (max(prompts) + 4)
    equal = [Row(list(rows[0].context_ids), [1]), Row(list(rows[0].context_ids), [2])]
    assert row_positions(equal) == 2 * (prompts[0] + 1), "equal ids of two objects stay two contexts"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_are_counted_as_they_are_packed(layout: Layout):
    rows = [Row(c, r) for c, of in (([1] * 5, [[7] * 4, [8]]), ([2] * 3, [[], [9] * 9])) for r in of]
    runs = by_context(rows)
    prompts = [rows[run[0]].context_ids for run in runs]
    packed = pack(prompts, [[rows[i].response_ids for i in run] for run in runs], 0, layout)
    assert row_positions(rows, layout) == packed.input_ids_BL.numel()


#: Some so long that rows are padded much.
LENGTHS = st.integers(0, 12) | st.sampled_from([100, 700, 3000])


def length_of(row: Row) -> int:
    return len(row.context_ids) + len(row.response_ids)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(LENGTHS, min_size=1, max_size=5)), max_size=6),
    st.integers(1, 40) | st.integers(1000, 20000),
    st.integers(1, 4),
    st.sampled_from(LAYOUTS),
)
def test_micro_batches_hold_every_row_once_within_the_bound(groups, bound: int, ranks: int, layout: Layout):
    rows = [Row(context, [0] * n) for size, of in groups for context in [[0] * size] for n in of]
    found = micro_batches(rows, lambda row: [row], bound, layout, multiple_of=ranks)
    place, order = {id(row): number for number, row in enumerate(rows)}, rows
    places = [[place[id(row)] for row in micro] for micro in found]
    assert all(micro == sorted(micro) for micro in places)
    found_places = [number for micro in places for number in micro]
    assert sorted(found_places) == list(range(len(rows)))
    if layout == "shared_prefix":
        assert found_places == sorted(found_places)
    else:
        order = sorted(rows, key=length_of, reverse=True)
        assert [n for micro in found for n in sorted(map(length_of, micro), reverse=True)] == [
            length_of(row) for row in order
        ]
        for micro in found:
            positions, tokens = row_positions(micro, layout), sum(map(length_of, micro))
            assert len(micro) <= 1 or positions <= max(ONE_RECTANGLE, 2 * tokens)
    assert len(found) % ranks == 0
    assert all(len(micro) == 1 or row_positions(micro, layout) <= bound for micro in found if micro)
    # As few as greedy filling needs, rounded up to the ranks.
    fewest, open_run = 0, []
    for row in order:
        if not open_run or not fits([*open_run, row], bound, layout):
            fewest, open_run = fewest + 1, []
        open_run = [*open_run, row]
    assert fewest <= len(found) < fewest + ranks


def test_micro_batches_are_even():
    """Nine rows of 10 where 80 fit: not 8 and 1, but 5 and 4, and 3, 3 and 3 on three ranks."""
    rows = [Row([0], [0] * 9) for _ in range(9)]
    assert [len(m) for m in micro_batches(rows, lambda row: [row], 80)] == [5, 4]
    assert [len(m) for m in micro_batches(rows, lambda row: [row], 80, multiple_of=3)] == [3, 3, 3]
    assert [len(m) for m in micro_batches(rows[:2], lambda row: [row], 80, multiple_of=4)] == [1, 1, 0, 0]


def test_a_unit_is_not_divided():
    pairs = [(Row([0], [1] * 3), Row([0], [2] * 5)) for _ in range(3)]
    assert [len(m) for m in micro_batches(pairs, list[Row], 20)] == [2, 1]
    assert [len(m) for m in micro_batches(pairs, list[Row], 1)] == [1, 1, 1]
    assert micro_batches([], list[Row], 20) == []
