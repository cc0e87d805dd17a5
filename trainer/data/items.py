"""Training and validation items, from JSONL files and from reasoning-gym tasks."""

import json
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainer.errors import InvalidSpec
from trainer.sandbox.bubblewrap import NoIsolation, refusal
from trainer.sandbox.inside import values
from trainer.sandbox.sandbox import Refused, Sandbox
from trainer.sandbox.tasks import ITEM_SECONDS, task_service
from trainer.seeds import generator
from trainer.spec.data import Data, EnvironmentData, JsonlData
from trainer.spec.messages import conversation
from trainer.spec.modes import Message

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """A prompt, and what the grader may read about it.

    ``messages`` and ``tools`` are as chat templates know them (``trainer.spec.messages``), with the role
    ``developer`` where the row has it.
    """

    messages: list[Message]
    fields: dict[str, object]
    line: int | None = None
    """Its line in its file, from 1."""
    index: int = 0
    """Its place in the data, from 0, whatever is left out of them."""
    tools: list[dict[str, Any]] | None = None

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"item {self.index}" if self.line is None else f"line {self.line}"


class Kept(Sequence[Item]):
    """Items without some that are left out; the others keep their ``index``."""

    def __init__(self, items: Sequence[Item], left_out: Collection[int]):
        self._items = items
        self._places = [place for place in range(len(items)) if place not in left_out] if left_out else None
        self.rows = len(items)
        """How many the data have, with those that are left out."""

    def __len__(self) -> int:
        return self.rows if self._places is None else len(self._places)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index if self._places is None else self._places[index]]


def load_items(spec: Data, param: str = "training_data") -> Sequence[Item]:
    """The items that ``spec`` describes. Raises InvalidSpec naming the line at fault."""
    if isinstance(spec, JsonlData):
        return _load_jsonl(spec, param)
    return _EnvironmentItems(spec, param)


def read_rows(
    spec: JsonlData, param: str, read: Callable[[dict[str, Any]], T]
) -> Iterator[tuple[int, dict[str, Any], T]]:
    """Line by line its number from 1, the row, and what ``read`` makes of it.

    Raises InvalidSpec naming the line where ``read`` raises ValueError, or where there is no row.
    """
    path, none = Path(spec.path), True
    if not path.is_file():
        raise InvalidSpec(f"{spec.path} does not exist", f"{param}.path")
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = dict(json.loads(line))
                made = read(row)
            except (ValueError, TypeError) as error:
                message = f"line {number} of {path.name} is not a JSON object with messages: {error}"
                raise InvalidSpec(message, f"{param}.path") from error
            none = False
            yield number, row, made
    if none:
        raise InvalidSpec(f"{path.name} has no rows", f"{param}.path")


def _load_jsonl(spec: JsonlData, param: str) -> list[Item]:
    items: list[Item] = []
    for number, row, told in read_rows(spec, param, conversation):
        messages, tools = told.templated(knows_developer=True), told.templated_tools()
        items.append(Item(messages, row, number, len(items), tools))
    return items


class _EnvironmentItems(Sequence[Item]):
    """Items made on demand; item i is the same whenever it is asked for."""

    def __init__(self, spec: EnvironmentData, param: str):
        self._spec, self._param = spec, param
        service = task_service(
            spec.task, spec.parameters, seconds=ITEM_SECONDS, size=spec.size, seed=spec.seed, tripwire=False
        )
        try:
            self._sandbox = Sandbox(service)
        except NoIsolation as error:
            raise InvalidSpec(f"a reasoning-gym task {refusal(error)}", f"{param}.task") from None
        except Refused as error:
            raise InvalidSpec(f"reasoning-gym task {spec.task!r}: {error}", f"{param}.task") from None
        weakref.finalize(self, self._sandbox.close)

    def __len__(self) -> int:
        return self._spec.size

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        answer = self._sandbox.ask(values.dumps({"index": index}))
        try:
            entry = values.loads(str(answer["item"]))
            question = str(entry["question"])
        except (ValueError, TypeError, KeyError) as error:
            what = f"item {index} of the reasoning-gym task {self._spec.task!r}"
            why = next(iter(answer.values())) if "item" not in answer else error
            raise InvalidSpec(f"{what} cannot be generated: {why}", self._param) from None
        if self._spec.instruction:
            question = f"{question}\n{self._spec.instruction}"
        messages: list[Message] = [{"role": "user", "content": question}]
        return Item(messages, {**entry, "messages": messages}, index=index)


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
