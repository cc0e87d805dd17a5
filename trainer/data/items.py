"""Training and validation items, from JSONL files and from reasoning-gym tasks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.errors import InvalidSpec
from trainer.modes import Message
from trainer.seeds import generator
from trainer.spec import Data, EnvironmentData, JsonlData


@dataclass(frozen=True)
class Item:
    """A prompt, and what the grader may read about it."""

    messages: list[Message]
    fields: dict[str, Any]


def load_items(spec: Data, param: str = "training_data") -> Sequence[Item]:
    """The items that ``spec`` describes. Raises InvalidSpec naming the line at fault."""
    if isinstance(spec, JsonlData):
        return _load_jsonl(spec, param)
    return _EnvironmentItems(spec, param)


def _load_jsonl(spec: JsonlData, param: str) -> list[Item]:
    path = Path(spec.path)
    if not path.is_file():
        raise InvalidSpec(f"{spec.path} does not exist", f"{param}.path")
    items = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = dict(json.loads(line))
                messages = row.pop("messages")
                if not messages or not isinstance(messages, list):
                    raise ValueError("messages is no list of messages")
            except (ValueError, KeyError, TypeError) as error:
                message = f"line {number} of {path.name} is no JSON object with messages: {error}"
                raise InvalidSpec(message, f"{param}.path") from error
            items.append(Item(messages, row))
    if not items:
        raise InvalidSpec(f"{path.name} has no rows", f"{param}.path")
    return items


class _EnvironmentItems(Sequence[Item]):
    """Items made on demand; item i is the same whenever it is asked for."""

    def __init__(self, spec: EnvironmentData, param: str):
        import reasoning_gym

        self._spec = spec
        try:
            self._task = reasoning_gym.create_dataset(
                spec.task, **{**spec.parameters, "size": spec.size, "seed": spec.seed}
            )
        except (ValueError, TypeError, AssertionError) as error:
            raise InvalidSpec(f"reasoning-gym task {spec.task!r}: {error}", f"{param}.task") from error

    def __len__(self) -> int:
        return self._spec.size

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        entry = self._task[index]
        question = entry["question"]
        if self._spec.instruction:
            question = f"{question}\n{self._spec.instruction}"
        return Item([{"role": "user", "content": question}], dict(entry))


class ItemOrder:
    """The order in which items are sampled: every item once an epoch, drawn from the run's seed.

    It depends on the position alone, which the run counts, so a resumed run goes on exactly where it was.
    """

    def __init__(self, size: int, seed: int):
        self._size, self._seed = size, seed
        self._epoch = -1
        self._order: list[int] = []

    def take(self, position: int, count: int) -> list[int]:
        """Indices of the ``count`` items from ``position`` (from 0) on."""
        return [self._item(one) for one in range(position, position + count)]

    def _item(self, position: int) -> int:
        epoch, offset = divmod(position, self._size)
        if epoch != self._epoch:
            self._order = torch.randperm(self._size, generator=generator(self._seed, "order", epoch)).tolist()
            self._epoch = epoch
        return self._order[offset]
