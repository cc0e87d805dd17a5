"""Two tasks with several correct answers and an exact verifier, in a vocabulary of whole words.

``sums``: "sum 17 with 4 and 6" wants four digits from 1 to 9, a 4 and a 6 among them, that add up to 17, such
as "4 + 6 + 2 + 5".
``walks``: "walk 1 2 to 3 3 in 5" wants five moves on a 5 x 5 board from (1, 2) to (3, 3) that never leave it.

Items are split by their question, so that a validation item was never trained on, neither in pre-training nor
after.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, permutations, product
from typing import Any

SIZE = 5
MOVES = {"up": (0, 1), "down": (0, -1), "right": (1, 0), "left": (-1, 0)}
VALIDATION_ITEMS = 128


@dataclass(frozen=True)
class Task:
    """``items``: what each item's verifier reads, with its question. ``answers``: canonical ones first."""

    name: str
    items: Callable[[], list[dict[str, Any]]]
    answers: Callable[[dict[str, Any]], Sequence[str]]
    correct: Callable[[dict[str, Any], str], bool]
    wrong: Callable[[str, random.Random], str]


def reward_of(task: Task) -> Callable[[dict[str, Any], str], float]:
    """The reward function of a run: 1 for a correct answer."""
    return lambda item, text: float(task.correct(item, text))


class AnsweringReward:
    """The reward function of a run in which equal answers count: beside it, what a response answers."""

    def __init__(self, task: Task):
        self._task = task

    def __call__(self, item: dict[str, Any], text: str) -> float:
        return float(self._task.correct(item, text))

    def answer(self, _item: dict[str, Any], text: str) -> str:
        """Its words; how they are spaced makes no difference."""
        return " ".join(text.split())


def split_items(task: Task) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and validation items, always the same."""
    items = task.items()
    random.Random(f"{task.name} split").shuffle(items)
    return items[VALIDATION_ITEMS:], items[:VALIDATION_ITEMS]


# --- sums ---------------------------------------------------------------------------------------------------


def _sum_items() -> list[dict[str, Any]]:
    pairs = combinations_with_replacement(range(1, 10), 2)
    items = [
        {"total": total, "digits": [a, b], "question": f"sum {total} with {a} and {b}"}
        for (a, b), total in product(pairs, range(8, 33))
    ]
    return [item for item in items if len(_sum_answers(item)) >= 12]


def _sum_answers(item: dict[str, Any]) -> Sequence[str]:
    """The wanted digits first in the canonical ones, then every other order."""
    first, second = item["digits"]
    left = item["total"] - first - second
    found: dict[str, None] = {}
    rests = [(c, left - c) for c in range(9, 0, -1) if 1 <= left - c <= 9]
    for rest in rests:
        found[" + ".join(map(str, (first, second, *rest)))] = None
    for rest in rests:
        for four in permutations((first, second, *rest)):
            found[" + ".join(map(str, four))] = None
    return list(found)


def _sum_correct(item: dict[str, Any], text: str) -> bool:
    words = text.split()
    digits = words[::2]
    if len(words) != 7 or set(words[1::2]) != {"+"} or not all(d in "123456789" for d in digits):
        return False
    wanted, have = Counter(map(str, item["digits"])), Counter(digits)
    return sum(map(int, digits)) == item["total"] and not wanted - have


def _wrong_sum(answer: str, chance: random.Random) -> str:
    words = answer.split()
    words[2 * chance.randrange(4)] = str(chance.randint(1, 9))
    return " ".join(words)


# --- walks --------------------------------------------------------------------------------------------------


def _walk_items() -> list[dict[str, Any]]:
    items = []
    for x, y, u, v, extra in product(*[range(SIZE)] * 4, (0, 2)):
        moves = abs(x - u) + abs(y - v) + extra
        if not 4 <= moves <= 7:
            continue
        question = f"walk {x} {y} to {u} {v} in {moves}"
        items.append({"start": [x, y], "end": [u, v], "moves": moves, "question": question})
    return [item for item in items if len(_walk_answers(item)) >= 4]


def _walk_answers(item: dict[str, Any]) -> Sequence[str]:
    return _walks(tuple(item["start"]), tuple(item["end"]), item["moves"])


@cache
def _walks(start: tuple[int, int], end: tuple[int, int], moves: int) -> tuple[str, ...]:
    """All ways, in an order that goes sideways first."""
    if abs(start[0] - end[0]) + abs(start[1] - end[1]) > moves:
        return ()
    if moves == 0:
        return ("",)
    found = []
    for name in ("right", "left", "up", "down"):
        x, y = start[0] + MOVES[name][0], start[1] + MOVES[name][1]
        if 0 <= x < SIZE and 0 <= y < SIZE:
            found += [f"{name} {rest}".strip() for rest in _walks((x, y), end, moves - 1)]
    return tuple(found)


def _walk_correct(item: dict[str, Any], text: str) -> bool:
    words = text.split()
    x, y = item["start"]
    for word in words:
        if word not in MOVES:
            return False
        x, y = x + MOVES[word][0], y + MOVES[word][1]
        if not (0 <= x < SIZE and 0 <= y < SIZE):
            return False
    return [x, y] == item["end"] and len(words) == item["moves"]


def _wrong_walk(answer: str, chance: random.Random) -> str:
    words = answer.split()
    words[chance.randrange(len(words))] = chance.choice(list(MOVES))
    return " ".join(words)


TASKS = {
    "sums": Task("sums", _sum_items, _sum_answers, _sum_correct, _wrong_sum),
    "walks": Task("walks", _walk_items, _walk_answers, _walk_correct, _wrong_walk),
}
