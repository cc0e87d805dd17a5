"""What an evaluation's graded responses say, per mode and mixed: accuracy, pass@k, votes, diversity.

Every number is a mean over items, so that an item counts once however many of its responses were graded.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from trainer.spec.modes import Mode
from trainer.statistics.distinct import (
    distinct_right_at_k,
    mixture_distinct_right_at_k,
    right_answers,
)
from trainer.statistics.diversity import (
    distinct_n,
    embedding_diversity,
    matched,
    repetition,
    self_bleu_diversity,
)
from trainer.statistics.majority import majority_at_k
from trainer.statistics.outcomes import ModeLabel, ModeOutcomes
from trainer.statistics.pass_at_k import (
    mixture_pass_at_k,
    pass_at_k,
    powers_of_two,
    solved_only_by_first,
    solved_only_by_second_draw,
)
from trainer.types import Group, Rollout

N, H = Mode.NORMAL, Mode.HIGH_ENTROPY


class ItemMeans:
    """Means over items by name; items without the number are left out."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float | None) -> None:
        if value is not None:
            self._values.setdefault(name, []).append(value)

    def result(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self._values.items()}


def solved(rollout: Rollout) -> bool:
    """Whether the response got the whole reward."""
    return rollout.reward == 1.0


def item_outcomes(
    groups: Sequence[Group], modes: Sequence[Mode], items: int, votes: bool
) -> dict[ModeLabel, ModeOutcomes]:
    """Of each item and mode the responses that were graded, those that got the whole reward, and the mean.

    An item of the first ``items`` that has no group was left out of the data: nothing of it was graded.
    ``votes``: whether it is known what a response answers; then its right answers are counted, too.
    """
    found: dict[ModeLabel, ModeOutcomes] = {}
    of_item = {group.item_index: group.rollouts for group in groups}
    for mode in modes:
        own = [[r for r in of_item.get(item, ()) if _graded(r, mode)] for item in range(items)]
        rewards = [[float(r.reward) for r in one if r.reward is not None] for one in own]
        found[mode.label] = ModeOutcomes(
            graded=[len(one) for one in own],
            correct=[sum(map(solved, one)) for one in own],
            reward=[round(sum(one) / len(one), 6) if one else None for one in rewards],
            right_answers=[_right_counts(of_item.get(item, ()), mode) for item in range(items)]
            if votes
            else None,
        )
    return found


def _right_counts(rollouts: Sequence[Rollout], mode: Mode) -> list[int]:
    """How many of the mode's responses gave each right answer that any response to the item gave."""
    places = list(dict.fromkeys(r.answer for r in rollouts if solved(r)))
    counts = right_answers(
        [r.answer for r in rollouts], [solved(r) and r.behavior_mode is mode for r in rollouts]
    )
    return [counts[answer] for answer in places]


def accuracy_metrics(groups: Sequence[Group], modes: Sequence[Mode], votes: bool) -> dict[str, float]:
    """``eval/{N,H}/{accuracy,pass@k,maj@k,distinct_right@k}``, ``eval/mix/{pass@k,distinct_right@k}``,
    ``eval/only_{H,N}`` and their control.

    ``only_H`` is the share of items that n/2 samples of H solve and n/2 of N do not (n the samples of the
    mode with the fewest; with n = 1, one sample each). ``only_second_draw_{N,H}`` is the same between two
    disjoint draws of one mode: what exceeds it is the mode's, the rest is luck. k runs over powers of two.

    ``votes``: whether it is known what a response answers, by the grader or by meanings. Where it is not,
    each text would be an answer of its own, and maj@k the accuracy once more: it is left out, and so is
    distinct_right@k.
    """
    means = ItemMeans()
    for group in groups:
        graded = {mode: [r for r in group.rollouts if _graded(r, mode)] for mode in modes}
        counts = {mode: (len(own), sum(map(solved, own))) for mode, own in graded.items()}
        for mode, own in graded.items():
            if not own:
                continue
            n, c = counts[mode]
            prefix = f"eval/{mode.label}"
            means.add(f"{prefix}/accuracy", c / n)
            answers, correct = [r.answer for r in own], [solved(r) for r in own]
            right = right_answers(answers, correct).values()
            for k in powers_of_two(n):
                means.add(f"{prefix}/pass@{k}", pass_at_k(n, c, k))
                if votes:
                    means.add(f"{prefix}/maj@{k}", majority_at_k(answers, correct, k))
                    means.add(f"{prefix}/distinct_right@{k}", distinct_right_at_k(n, right, k))
        if len(modes) == 2 and all(graded.values()):
            _mixed(means, counts[N], counts[H])
            if votes:
                _mixed_answers(means, graded[N], graded[H])
    return means.result()


def graded_counts(groups: Sequence[Group], modes: Sequence[Mode]) -> dict[str, float]:
    """``eval/{N,H}/graded``: how many responses of a mode were graded, which its mean reward is of."""
    return {
        f"eval/{mode.label}/graded": float(sum(_graded(r, mode) for group in groups for r in group.rollouts))
        for mode in modes
    }


def _mixed_answers(means: ItemMeans, normal: Sequence[Rollout], high: Sequence[Rollout]) -> None:
    first, second = (
        (len(own), right_answers([r.answer for r in own], [solved(r) for r in own])) for own in (normal, high)
    )
    for half in powers_of_two(min(len(normal), len(high))):
        value = mixture_distinct_right_at_k(first, second, 2 * half)
        means.add(f"eval/mix/distinct_right@{2 * half}", value)


def _mixed(means: ItemMeans, normal: tuple[int, int], high: tuple[int, int]) -> None:
    fewest = min(normal[0], high[0])
    for half in powers_of_two(fewest):
        means.add(f"eval/mix/pass@{2 * half}", mixture_pass_at_k(normal, high, 2 * half))
    m = max(1, fewest // 2)
    means.add("eval/only_H", solved_only_by_first(high, normal, m))
    means.add("eval/only_N", solved_only_by_first(normal, high, m))
    if 2 * m <= fewest:
        means.add("eval/only_second_draw_N", solved_only_by_second_draw(*normal, m))
        means.add("eval/only_second_draw_H", solved_only_by_second_draw(*high, m))


def diversity_metrics(
    groups: Sequence[Group], modes: Sequence[Mode], stop_ids: frozenset[int]
) -> dict[str, float]:
    """``eval/{N,H}/{distinct1,distinct2,self_bleu4,repetition}``, of the tokens without the end.

    ``self_bleu4`` is 1 - mean self-BLEU: higher is more diverse, as with the others. The names with
    ``_matched`` compare the modes on equally many responses of the same length, those with ``_correct`` on
    such responses among the correct ones (items with two or more in each mode).
    """
    means = ItemMeans()
    for view in _views(groups, modes, stop_ids):
        prefix = f"eval/{view.mode.label}"
        means.add(f"{prefix}/distinct1{view.suffix}", distinct_n(view.responses, 1))
        means.add(f"{prefix}/distinct2{view.suffix}", distinct_n(view.responses, 2))
        means.add(f"{prefix}/self_bleu4{view.suffix}", self_bleu_diversity(view.responses))
        if not view.suffix:
            for response in view.responses:
                means.add(f"{prefix}/repetition", repetition(response))
    return means.result()


def embedding_metrics(
    groups: Sequence[Group],
    modes: Sequence[Mode],
    stop_ids: frozenset[int],
    text: Callable[[Sequence[int]], str],
    embed: Callable[[Sequence[str]], Tensor],
) -> dict[str, float]:
    """``eval/{N,H}/embedding_diversity``, of all responses and in the variants of ``diversity_metrics``.

    ``text`` is what a response's tokens stand for, ``embed`` gives each text a unit vector; (texts, D).
    """
    names, texts = [], []
    for view in _views(groups, modes, stop_ids):
        names.append(f"eval/{view.mode.label}/embedding_diversity{view.suffix}")
        texts.append([text(response) for response in view.responses])
    distinct = list(dict.fromkeys(one for of_view in texts for one in of_view))
    vectors = dict(zip(distinct, embed(distinct).tolist(), strict=True)) if distinct else {}
    means = ItemMeans()
    for name, of_view in zip(names, texts, strict=True):
        means.add(name, embedding_diversity([vectors[one] for one in of_view]))
    return means.result()


class _View(NamedTuple):
    """Responses of one mode to one item, to be compared with each other; tokens without the end."""

    mode: Mode
    suffix: str
    responses: Sequence[Sequence[int]]


def _views(groups: Sequence[Group], modes: Sequence[Mode], stop_ids: frozenset[int]) -> Iterator[_View]:
    for group in groups:
        own = {mode: [r for r in group.rollouts if r.behavior_mode is mode] for mode in modes}
        everything = [[_tokens(r, stop_ids) for r in own[mode]] for mode in modes]
        correct = [[_tokens(r, stop_ids) for r in own[mode] if solved(r)] for mode in modes]
        views = (("", tuple(everything)), ("_matched", matched(*everything)), ("_correct", matched(*correct)))
        for suffix, of_modes in views:
            for mode, responses in zip(modes, of_modes, strict=True):
                if suffix != "_correct" or len(responses) >= 2:
                    yield _View(mode, suffix, responses)


def _graded(rollout: Rollout, mode: Mode) -> bool:
    return rollout.behavior_mode is mode and rollout.reward is not None


def _tokens(rollout: Rollout, stop_ids: frozenset[int]) -> list[int]:
    return [token for token in rollout.response_ids if token not in stop_ids]
