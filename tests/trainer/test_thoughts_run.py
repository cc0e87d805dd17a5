"""A run of a model that thinks: graders see the answer alone, and both parts are measured."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer import loop
from trainer.api import train
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.rollout.engine import RolloutEngine, Sample, SampleRequest
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Rollouts, StepMetrics
from trainer.spec.run import RolloutSpec, RunSpec

#: As DeepSeek-R1's: the template itself opens the thoughts.
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
#: What the model says, by its seed: thoughts and an answer, others, and one that is cut off while it thinks.
SAID = ("ab?\n</think>\n\nyes", "a long way to go\n</think>\n\nno", "never ends")


class Scripted(RolloutEngine):
    """Says what it is to say, with the policy's own log-probabilities."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def generate(
        self,
        requests: Sequence[SampleRequest],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int | None = None,
        form: ResponseFormat | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> list[Sample]:
        return [self._sample(request, max_tokens) for request in requests]

    @torch.no_grad()
    def _sample(self, request: SampleRequest, max_tokens: int) -> Sample:
        tokenizer = self._policy.tokenizer
        ids = tokenizer.encode(SAID[request.seed % 3], add_special_tokens=False)[:max_tokens]
        if cut := request.seed % 3 == 2:
            ids = ids[: max_tokens - 1]
        else:
            ids = [*ids, tokenizer.eos_token_id]
        whole = torch.tensor([[*request.prompt_ids, *ids]])
        logp = self._policy.model(input_ids=whole, use_cache=False).logits[0].float().log_softmax(-1)
        first = len(request.prompt_ids) - 1
        return Sample(ids, [float(logp[first + n, token]) for n, token in enumerate(ids)], cut)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return tiny_spec(
        build_tiny_model(tmp_path / "model", chat_template=OPENS, spread=0.3),
        write_rows(tmp_path / "rows.jsonl"),
        grader=None,
        rollout=RolloutSpec(prompts_per_step=3, samples_per_prompt=8, max_response_tokens=64),
        evaluation=EvaluationSpec(max_items=3, samples_per_item=4),
        total_steps=1,
    )


def test_graders_see_the_answer_alone_and_both_parts_are_measured(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "build_engine", lambda _spec, policy, *_: Scripted(policy))
    seen: set[str] = set()

    def reward(_: dict[str, Any], text: str) -> float:
        seen.add(text)
        return float(text == "yes")

    train(spec, tmp_path / "run", reward=reward)
    assert seen == {"yes", "no", ""}  # thoughts without an end have no answer
    events = events_of(tmp_path / "run")
    step = next(e for e in events if isinstance(e, StepMetrics) and e.step == 1).values
    (rollouts,) = [e.rollouts for e in events if isinstance(e, Rollouts)]
    for label, mode in (("N", "normal"), ("H", "high-entropy")):
        own = [one for one in rollouts if one.mode.value == mode]
        thoughts = [_thought_tokens(one.response, one.tokens) for one in own]
        answers = [one.tokens - end for one, end in zip(own, thoughts, strict=True)]
        assert step[f"train/{label}/reasoning_length"] == pytest.approx(sum(thoughts) / len(own))
        assert step[f"train/{label}/answer_length"] == pytest.approx(sum(answers) / len(own))
        for part, cut in (
            ("reasoning", lambda one, end: one.entropies[:end]),
            ("answer", lambda one, end: one.entropies[end:]),
        ):
            values = [x for one, end in zip(own, thoughts, strict=True) for x in cut(one, end)]
            name = f"train/{label}/{part}_entropy_nats"
            assert step[name] == pytest.approx(sum(values) / len(values), abs=1e-4)
        for part in ("reasoning", "answer"):
            assert step[f"eval/{label}/{part}_length"] > 0
            assert step[f"eval/{label}/{part}_entropy_nats"] > 0
        assert [one.reward for one in own] == [float(one.response == SAID[0]) for one in own]


def _thought_tokens(response: str, tokens: int) -> int:
    """A token is a byte here."""
    before, mark, _ = response.partition("</think>")
    return len(before.encode()) + len(mark) if mark else tokens


def test_a_model_that_does_not_think_has_no_parts(tmp_path: Path, tiny_model: Path):
    plain = tiny_spec(tiny_model, write_rows(tmp_path / "rows.jsonl"), total_steps=1)
    train(plain, tmp_path / "run")
    names = {name for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics) for name in e.values}
    assert not [name for name in names if "reasoning" in name or "answer_" in name]
