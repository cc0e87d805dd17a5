"""Items, their order, and what is said about data that cannot be used."""

import json
from pathlib import Path

import pytest

from trainer.data.items import ItemOrder, load_items
from trainer.errors import InvalidSpec
from trainer.spec.data import EnvironmentData, JsonlData


def test_jsonl_rows_are_messages_and_fields(tmp_path: Path):
    path = tmp_path / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "1 + 1"}], "answer": 2}
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(row))
    items = load_items(JsonlData(path=str(path)))
    assert len(items) == 2
    assert items[0].messages == row["messages"]
    assert items[0].fields == row  # as the file has it, for graders


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"messages": []}', '{"messages": "hi"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str):
    path = tmp_path / "data.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\n' + line + "\n")
    with pytest.raises(InvalidSpec, match=r"line 2 of data\.jsonl"):
        load_items(JsonlData(path=str(path)))


def test_missing_and_empty_files(tmp_path: Path):
    with pytest.raises(InvalidSpec, match="does not exist"):
        load_items(JsonlData(path=str(tmp_path / "none.jsonl")))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InvalidSpec, match="no rows"):
        load_items(JsonlData(path=str(tmp_path / "empty.jsonl")))


def test_environment_items_are_reproducible_and_carry_the_answer():
    spec = EnvironmentData(task="chain_sum", size=5, seed=3, instruction="Reply with a number.")
    first, second = load_items(spec), load_items(spec)
    assert [i.fields["answer"] for i in first] == [i.fields["answer"] for i in second]
    assert first[0].messages[0]["content"].endswith("\nReply with a number.")


@pytest.mark.parametrize(
    "spec",
    [EnvironmentData(task="no_such_task"), EnvironmentData(task="chain_sum", parameters={"no_such": 1})],
)
def test_unknown_tasks_and_parameters(spec: EnvironmentData):
    with pytest.raises(InvalidSpec, match="reasoning-gym task"):
        load_items(spec)


def test_every_item_is_trained_once_an_epoch():
    order = ItemOrder(size=10, seed=1)
    seen = [item for step in range(5) for item in order.take(4 * step, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_the_order_depends_on_the_position_alone():
    whole = ItemOrder(size=7, seed=5).take(0, 27)
    resumed = ItemOrder(size=7, seed=5)
    assert resumed.take(12, 5) + resumed.take(17, 10) == whole[12:]
    assert ItemOrder(size=7, seed=6).take(0, 7) != whole[:7]
