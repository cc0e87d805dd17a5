"""Votes over free texts: what is the same answer, and what an evaluation makes of it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.evaluation.meanings import answers_by_meaning
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EvaluationOutcomes, MessageEvent, StepMetrics
from trainer.spec.run import RolloutSpec

#: Degrees on a circle: the cosine of two texts is that of their difference.
DEGREES = {"zero": 0.0, "twenty": 20.0, "forty": 40.0, "sixty": 60.0, "round": 359.0}


def embed(texts: Sequence[str]) -> torch.Tensor:
    angle_N = torch.tensor([DEGREES[text] for text in texts]).deg2rad()
    return torch.stack([angle_N.cos(), angle_N.sin()], dim=-1)


@pytest.mark.parametrize(
    ("degrees", "answers"),
    [
        (25, ["0", "0", "1", "1", "0", None, "0"]),  # forty is too far from zero, though near to twenty
        (45, ["0", "0", "0", "1", "0", None, "0"]),
        (0.5, ["0", "1", "2", "3", "4", None, "0"]),
    ],
)
def test_an_answer_has_one_response_that_the_others_are_near_to(
    tiny_model: Path, degrees: float, answers: list[str | None]
):
    policy = load_tiny_policy(tiny_model, double=False)
    group = make_group(policy, [1.0] * 7, [N, H] * 3 + [N], lengths=[1] * 7)
    texts = ["zero", "twenty", "forty", "sixty", "<think>sixty</think>round", " ", "zero\n"]
    for rollout, text in zip(group.rollouts, texts, strict=True):
        rollout.text = text
    similarity = float(torch.tensor(degrees).deg2rad().cos())
    assert answers_by_meaning(policy, [group], embed, similarity) == [answers]
    assert answers_by_meaning(policy, [], embed, similarity) == []


@pytest.mark.parametrize("with_encoder", [True, False])
def test_an_evaluation_has_votes_where_meanings_are_known(
    tiny_model: Path, tiny_encoder: Path, tmp_path: Path, with_encoder: bool
):
    """This grader finds a letter anywhere in a text, which is no answer by itself."""
    spec = tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=4, max_response_tokens=8),
        evaluation=EvaluationSpec(
            max_items=2, samples_per_item=4, embedding_model=str(tiny_encoder) if with_encoder else None
        ),
        total_steps=1,
    )
    train(spec, tmp_path / "run")
    events = events_of(tmp_path / "run")
    names = {name for event in events if isinstance(event, StepMetrics) for name in event.values}
    voted = {f"eval/{mode}/maj@{k}" for mode in "NH" for k in (1, 2, 4)}
    assert (names >= voted) is with_encoder
    outcomes = [event.modes for event in events if isinstance(event, EvaluationOutcomes)]
    # What a comparison by distinct_right@k reads.
    known = {mode.right_answers is not None for of_modes in outcomes for mode in of_modes.values()}
    assert known == {with_encoder}
    told = [event.message for event in events if isinstance(event, MessageEvent) and "maj@k" in event.message]
    assert bool(told) is not with_encoder
