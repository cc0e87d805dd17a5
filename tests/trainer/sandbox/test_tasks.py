"""reasoning-gym's tasks in a sandbox: the items that they are outside, and parameters that name files."""

import dataclasses
import importlib
import re
from types import ModuleType
from typing import Any

import pytest

from trainer.data.items import load_items
from trainer.errors import InvalidSpec
from trainer.sandbox.inside import values
from trainer.sandbox.inside.environment import names_a_file
from trainer.sandbox.tasks import tasks
from trainer.spec.data import EnvironmentData

#: Tasks of which an item takes a search of a second or more, or whose data takes a second to load.
SLOW = {"knight_swap", "zebra_puzzles", "puzzle24", "intermediate_integration", "arc_agi", "composite"}


@pytest.fixture(scope="module")
def gym() -> ModuleType:
    """The package, which takes seconds to import: not where tests are collected."""
    return importlib.import_module("reasoning_gym")


def test_the_parameters_that_name_files_are_known(gym: ModuleType):
    """Of all tasks: a new version of the package that brings another one is looked at by a person."""
    found = {
        (task, field.name)
        for task, (_, configuration) in gym.factory.DATASETS.items()
        for field in dataclasses.fields(configuration)
        if names_a_file(field)
    }
    assert found == {("spell_backward", "data_file")}
    defaults = {
        (task, field.name)
        for task, (_, configuration) in gym.factory.DATASETS.items()
        for field in dataclasses.fields(configuration)
        if isinstance(field.default, str) and re.search(r"/|\w\.\w", field.default)
    }
    assert defaults == {("spell_backward", "data_file")}


def test_a_task_draws_from_no_file_of_the_host():
    problem = tasks().problem_of("spell_backward", {"data_file": "/etc/passwd"})
    assert problem["file"] is True and "names a file" in problem["message"]
    data = EnvironmentData(task="spell_backward", size=2, seed=0, parameters={"data_file": "/etc/passwd"})
    with pytest.raises(InvalidSpec, match=r"data_file.*names a file"):
        load_items(data)


@pytest.mark.parametrize(
    "task", ["rearc", "graph_color", "family_relationships", "knights_knaves", "gsm_symbolic"]
)
def test_items_are_those_that_the_task_draws_outside(task: str, gym: ModuleType):
    """Whatever types they are made of, and in any order."""
    items = load_items(EnvironmentData(task=task, size=40, seed=7))
    own: Any = gym.create_dataset(task, size=40, seed=7)
    for index in (31, 0, 31):
        entry = dict(own[index])
        found = dict(items[index].fields)
        found.pop("messages")
        assert found == entry
        assert _shape(found) == _shape(entry)


def test_values_of_every_task_come_through(gym: ModuleType):
    for task in sorted(gym.factory.DATASETS.keys() - SLOW):
        entry = dict(gym.create_dataset(task, size=2, seed=5)[1])
        assert values.loads(values.dumps(entry)) == entry, task


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [(_shape(key), _shape(one)) for key, one in value.items()]
    if isinstance(value, list | tuple | set):
        return type(value).__name__, [_shape(one) for one in value]
    return "str" if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, (2.5, None)), 3: {"b"}, (1, 2): frozenset({True})},
        {"$tuple": [1]},
        {"$dict": []},
        {"$other": {"$tuple": 1, "x": 2}},
        {"": "\ud800", "x" * 1000: [[]] * 3},
        [float("inf"), -0.0, 10**400],
    ],
)
def test_a_value_comes_back_as_it_was(value: Any):
    back = values.loads(values.dumps(value))
    assert back == value and _shape(back) == _shape(value)


def test_what_has_no_place_in_a_value_is_refused():
    with pytest.raises(TypeError, match=r"builtins\.object cannot be passed to the sandbox"):
        values.dumps({"a": object()})
