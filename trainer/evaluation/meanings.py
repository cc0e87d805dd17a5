"""What free texts answer, where no grader says it: those of about the same meaning are the same answer.

A response is the same answer as the first one before it, of the same item, whose vector is as near as
``EvaluationSpec.answer_similarity``; else it is a new answer. So each answer has one response that all others
of it are near to, and no chain of small steps makes two meanings one. An empty text is not an answer.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from trainer.model.policy import Policy
from trainer.steps.thoughts import take_apart
from trainer.types import Group

Embed = Callable[[Sequence[str]], Tensor]


def answers_by_meaning(
    policy: Policy, groups: Sequence[Group], embed: Embed, similarity: float
) -> list[list[str | None]]:
    """Of each group what each response answers, as the number of its answer; thoughts do not count.

    ``embed`` gives each text a unit vector; (texts, D).
    """
    texts = [[take_apart(policy, group, one).text.strip() for one in group.rollouts] for group in groups]
    distinct = list(dict.fromkeys(text for of_group in texts for text in of_group if text))
    vectors_ND = embed(distinct) if distinct else None
    place = {text: number for number, text in enumerate(distinct)}
    found: list[list[str | None]] = []
    for of_group in texts:
        first: list[int] = []
        found.append([])
        for text in of_group:
            if not text or vectors_ND is None:
                found[-1].append(None)
                continue
            own = place[text]
            near = [n for n, other in enumerate(first) if _near(vectors_ND, own, other, similarity)]
            if not near:
                near = [len(first)]
                first.append(own)
            found[-1].append(str(near[0]))
    return found


def _near(vectors_ND: Tensor, one: int, other: int, similarity: float) -> bool:
    return one == other or float(vectors_ND[one] @ vectors_ND[other]) >= similarity
