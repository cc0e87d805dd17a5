"""Creative answers compared by a judge model: blinded, and clustered by prompt.

Contestants (a model in a mode, say) answer the same prompts, several times each. All texts are shuffled and
judged one by one: the judge sees the prompt and a text, never who wrote it or what others wrote. Two
contestants are compared prompt by prompt, each prompt's score being the mean over its texts: texts on one
prompt are alike, so they do not count as independent.

How different a contestant's texts on a prompt are from each other is measured on equally many texts of the
same length (``trainer.statistics.diversity.matched``): longer texts repeat themselves more.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from trainer.graders.grade import Grade, Grader, Sample
from trainer.statistics.diversity import distinct_n, matched, self_bleu_diversity

#: Texts by contestant, and by prompt.
Texts = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Judged:
    """A text with its grade."""

    contestant: str
    prompt: int
    text: str
    grade: Grade


def judge_blind(
    grader: Grader,
    prompts: Sequence[str],
    texts: Texts,
    seed: int = 0,
    at_once: int = 8,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """Every text with its grade. The grader's item has ``prompt`` alone; ``seed`` is that of the order.

    ``on_progress`` is told how many are judged, after every ``at_once`` of them.
    """
    entries = [
        (contestant, prompt, text)
        for contestant, by_prompt in texts.items()
        for prompt, of_prompt in enumerate(by_prompt)
        for text in of_prompt
    ]
    random.Random(seed).shuffle(entries)
    samples = [Sample({"prompt": prompts[prompt]}, text) for _, prompt, text in entries]
    grades: list[Grade] = []
    for start in range(0, len(samples), at_once):
        grades += grader.grade_many(samples[start : start + at_once])
        on_progress(len(grades))
    return [Judged(*entry, grade) for entry, grade in zip(entries, grades, strict=True)]


def creative_report(judged: Sequence[Judged], prompts: int, method: str, seed: int = 0) -> dict[str, object]:
    """Each contestant's scores and diversity, and ``method`` against each other, by criterion and in all.

    A text that could not be judged is counted and left out; a prompt without a judged text of both
    contestants is left out of their comparison.
    """
    contestants = list(dict.fromkeys(one.contestant for one in judged))
    contestants.sort(key=lambda name: (name != method, name))
    criteria = sorted({name for one in judged for name in one.grade.scores})
    means = {(name, c): _by_prompt(judged, name, c, prompts) for name in contestants for c in criteria}
    return {
        "object": "experiment.creative_report",
        "method": method,
        "prompts": prompts,
        "contestants": [
            {
                "name": name,
                "texts": sum(one.contestant == name for one in judged),
                "not_judged": sum(one.contestant == name and one.grade.reward is None for one in judged),
                "scores": {c: _mean(means[name, c]) for c in criteria},
            }
            for name in contestants
        ],
        "diversity_at_matched_length": _diversity(judged, contestants, prompts),
        "comparisons": _compared(means, contestants, criteria, method, seed),
    }


def _by_prompt(judged: Sequence[Judged], contestant: str, criterion: str, prompts: int) -> list[float | None]:
    found: dict[int, list[float]] = defaultdict(list)
    for one in judged:
        if one.contestant == contestant and one.grade.reward is not None:
            found[one.prompt].append(one.grade.scores[criterion])
    return [fmean(found[prompt]) if found[prompt] else None for prompt in range(prompts)]


def _compared(
    means: Mapping[tuple[str, str], Sequence[float | None]],
    contestants: Sequence[str],
    criteria: Sequence[str],
    method: str,
    seed: int,
) -> list[dict[str, object]]:
    # numpy and scipy take a second to import.
    import numpy as np

    from trainer.statistics.multiplicity import holm
    from trainer.statistics.paired import compare_models

    rows = []
    for other in (name for name in contestants if name != method):
        for criterion in criteria:
            # None, a prompt without a judged text, becomes NaN.
            first, second = (np.array(means[name, criterion], dtype=float) for name in (method, other))
            found = compare_models(first, second, seed=seed)
            if found is None:
                continue
            rows.append(
                {
                    "against": other,
                    "criterion": criterion,
                    "prompts": found.items,
                    "delta": found.delta,
                    **found.interval.ends(),
                    "p": found.p,
                }
            )
    corrected = holm([row["p"] for row in rows])
    return [row | {"holm_p": p} for row, p in zip(rows, corrected, strict=True)]


def _diversity(judged: Sequence[Judged], contestants: Sequence[str], prompts: int) -> dict[str, object]:
    """Means over prompts; words are the tokens."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in contestants}
    for prompt in range(prompts):
        sets = [
            [one.text.split() for one in judged if one.contestant == name and one.prompt == prompt]
            for name in contestants
        ]
        for name, own in zip(contestants, matched(*sets), strict=True):
            values = {"distinct1": distinct_n(own, 1), "distinct2": distinct_n(own, 2)}
            values["self_bleu4"] = self_bleu_diversity(own)
            for measure, value in values.items():
                if value is not None:
                    found[name][measure].append(value)
    return {name: {measure: fmean(values) for measure, values in of.items()} for name, of in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
