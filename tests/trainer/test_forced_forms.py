"""Responses held to a form while they are sampled: what is drawn, with which probability, what it weighs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.fixtures.forms import ALLOWED, FORM, may_follow, text_of
from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.models import CHATML, build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.data.items import Item
from trainer.errors import InvalidSpec
from trainer.evaluation.forms import check_forced
from trainer.graders.response_format import ResponseFormat
from trainer.loop import Run
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.replay import replay
from trainer.rollout.engine import Sample, SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EventWriter, Rollouts, StepMetrics
from trainer.spec.modes import Mode
from trainer.spec.run import RolloutSpec
from trainer.steps.generation import sample_groups
from trainer.steps.group_loss import Old, formed
from trainer.types import Group

PROMPTS = [(256, 84, 82), (256, 1, 2, 3, 4, 5, 6, 7, 8, 9), (256, 60)]
HELD = ResponseFormat.model_validate(FORM)
MESSAGES = [{"role": "user", "content": "Are you sure?"}]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A model with opinions, which are not those of the form."""
    folder = build_tiny_model(tmp_path_factory.mktemp("models") / "opinions", spread=0.3)
    return load_tiny_policy(folder, double=False)


def requests(count: int) -> list[SampleRequest]:
    return [SampleRequest(PROMPTS[i % 3], seed=i) for i in range(count)]


@torch.no_grad()
def logits_of(policy: Policy, prompt: tuple[int, ...], response: list[int]) -> Tensor:
    """In the place of each response token; (tokens, V)."""
    return policy.model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].float()


def reference(policy: Policy, logits_V: Tensor, before: list[int], temperature: float, **keep: Any) -> Tensor:
    """Log-probabilities of what may follow, of these the likeliest; -inf for the rest; (V,)."""
    may = may_follow(policy, text_of(policy, before))
    p = torch.zeros_like(logits_V)
    p[may] = (logits_V[may] / temperature).softmax(-1)
    if (top_k := keep.get("top_k")) is not None:
        p[p < p.topk(top_k).values[-1]] = 0
        p = p / p.sum()
    if (top_p := keep.get("top_p")) is not None:
        sorted_p, index = p.sort(descending=True)
        p[index[sorted_p.cumsum(-1) - sorted_p >= top_p]] = 0
    return (p / p.sum()).log()


@pytest.mark.parametrize("keep", [{}, {"top_k": 4, "top_p": 0.8}])
def test_what_is_drawn_is_of_the_form_with_its_probability_among_what_is(
    policy: Policy, keep: dict[str, Any]
):
    """Prompts of three lengths in one batch, whose rows end one after the other; some are cut off."""
    samples = TransformersEngine(policy).generate(
        requests(30), max_tokens=25, temperature=0.7, form=HELD, **keep
    )
    for i, sample in enumerate(samples):
        text = text_of(policy, sample.response_ids)
        assert ALLOWED.fullmatch(text, partial=sample.truncated), text
        ends = [token in policy.stop_ids for token in sample.response_ids]
        assert not any(ends[:-1]) and ends[-1] != sample.truncated
        logits_TV = logits_of(policy, PROMPTS[i % 3], sample.response_ids)
        for at, (token, logprob) in enumerate(zip(sample.response_ids, sample.logprobs, strict=True)):
            expected = reference(policy, logits_TV[at], sample.response_ids[:at], 0.7, **keep)
            assert logprob == pytest.approx(float(expected[token]), abs=1e-4)
    if not keep:
        assert {sample.truncated for sample in samples} == {True, False}
        assert len({text_of(policy, sample.response_ids) for sample in samples}) > 10


def test_greedy_is_the_likeliest_of_what_may_follow(policy: Policy):
    samples = TransformersEngine(policy).generate(requests(3), max_tokens=40, temperature=0.0, form=HELD)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        ids: list[int] = []
        while not ids or ids[-1] not in policy.stop_ids:
            logits_V = logits_of(policy, prompt, [*ids, 0])[-1]
            may = may_follow(policy, text_of(policy, ids))
            ids.append(max(may, key=lambda token: float(logits_V[token])))
        assert sample == Sample(ids, [0.0] * len(ids), truncated=False)


def test_a_response_does_not_depend_on_its_batch_nor_on_what_was_sampled_before(policy: Policy):
    options: dict[str, Any] = {"max_tokens": 25, "temperature": 1.0}
    engine = TransformersEngine(policy)
    together = engine.generate(requests(7), form=HELD, **options)
    alone = TransformersEngine(policy, max_batch=1).generate(requests(7), form=HELD, **options)
    assert [s.response_ids for s in together] == [s.response_ids for s in alone]
    free = engine.generate(requests(7), **options)
    assert free == TransformersEngine(policy).generate(requests(7), **options)
    assert engine.generate(requests(7), form=HELD, **options) == together
    assert not any(ALLOWED.fullmatch(text_of(policy, s.response_ids), partial=True) for s in free)


def test_any_object_is_json(policy: Policy):
    form = ResponseFormat(type="json_object")
    samples = TransformersEngine(policy).generate(requests(6), max_tokens=8, temperature=1.0, form=form)
    assert all(text_of(policy, s.response_ids).startswith("{") for s in samples)


def test_a_token_weighs_what_its_mode_gives_to_all_that_were_allowed(policy: Policy):
    """Under both prompts: exp(trainer's log-probability - masked one), the allowed tokens' probability."""
    algorithm = build_algorithm(PolicySplit(), forced=True)
    rollout = RolloutSpec(max_response_tokens=25, force_response_format=True)
    context = step_context(policy, algorithm, rollout=rollout, form=HELD)
    group = Group(0, 0, {}, MESSAGES, {mode: policy.prompt_ids(MESSAGES, mode) for mode in Mode})
    sample_groups(context, [group], dict.fromkeys(Mode, 3), "train")
    mass = []
    for number, one in enumerate(group.rollouts):
        one.reward = float(number % 2)
        prompt = tuple(group.prompt_ids[one.behavior_mode])
        p_TV = logits_of(policy, prompt, one.response_ids).softmax(-1)
        for at in range(len(one.response_ids)):
            mass.append(float(p_TV[at, may_follow(policy, text_of(policy, one.response_ids[:at]))].sum()))
    (scores,) = score_groups(policy, [group], tuple(Mode))
    old_T = Old.of(scores).logp_T
    plan = algorithm.plan(group)
    for mode in Mode:
        metrics = MetricSums()
        weight_T = formed(
            algorithm, plan, mode, old_T, scores[mode].entropy_T.detach(), 0, metrics
        ).importance_T
        assert weight_T is not None
        assert torch.allclose(weight_T.double(), torch.tensor(mass).double(), rtol=1e-3, atol=1e-6)
        assert bool((weight_T <= 1 + 1e-4).all()) and bool((weight_T < 0.5).any())
        assert metrics.result()["rollout/importance_clipped"] == 0


def test_a_run_is_held_to_its_form_and_a_step_of_it_is_the_same_again(tiny_model: Path, tmp_path: Path):
    spec = tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        response_format=HELD,
        rollout=RolloutSpec(
            prompts_per_step=3, samples_per_prompt=4, max_response_tokens=24, force_response_format=True
        ),
        evaluation=EvaluationSpec(max_items=2, samples_per_item=4),
        total_steps=2,
    )
    with EventWriter(tmp_path / "run/events.jsonl") as events:
        assert Run(spec, tmp_path / "run", events).run()
    told = events_of(tmp_path / "run")
    steps = {event.step: event for event in told if isinstance(event, StepMetrics)}
    rollouts = [one for event in told if isinstance(event, Rollouts) for one in event.rollouts]
    assert all(ALLOWED.fullmatch(one.response, partial=one.truncated) for one in rollouts)
    whole = [ALLOWED.fullmatch(one.response) is not None for one in rollouts]
    assert [one.parse_error is None for one in rollouts] == whole
    assert 0 < sum(whole) < len(whole)
    for mode in ("N", "H"):
        for part in ("train", "eval"):
            values = steps[2].values
            assert values[f"{part}/{mode}/parse_error"] <= values[f"{part}/{mode}/truncated"]
    assert steps[2].values["rollout/importance_clipped"] == 0
    assert replay(spec, tmp_path / "run", 2).digest == steps[2].digest


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"response_format": None}, "there is no response_format to enforce"),
        ({"response_format": ResponseFormat(type="text")}, "there is no response_format to enforce"),
        ({"algorithm": Grpo(rollout_importance_cap=0)}, "algorithm.rollout_importance_cap is 0"),
    ],
)
def test_what_cannot_be_forced_or_made_up_for_is_refused(changes: dict[str, Any], says: str):
    rollout = RolloutSpec(force_response_format=True)
    with pytest.raises(ValidationError, match=says):
        tiny_spec(
            Path("model"), Path("rows.jsonl"), **{"response_format": HELD, "rollout": rollout} | changes
        )


def test_a_schema_that_cannot_be_followed_is_refused_before_training(policy: Policy):
    schema = {"name": "a", "schema": {"not": {"type": "string"}}}
    form = ResponseFormat.model_validate({"type": "json_schema", "json_schema": schema})
    with pytest.raises(
        InvalidSpec, match="response_format cannot be enforced: Unimplemented keys"
    ) as refused:
        check_forced(policy, form, [Item(MESSAGES, {})])
    assert refused.value.param == "response_format.json_schema.schema"


def test_thoughts_that_the_template_opens_are_not_held_to_the_form(tmp_path: Path):
    template = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    opened = load_tiny_policy(build_tiny_model(tmp_path / "model", chat_template=template))
    with pytest.raises(InvalidSpec, match="turn thinking off in chat_template_kwargs"):
        check_forced(opened, HELD, [Item(MESSAGES, {})])


def test_documents_of_runs_without_it_are_as_they_were():
    """So that a worker of before reads them."""
    assert "force_response_format" not in RolloutSpec().model_dump(mode="json")
    forced = RolloutSpec(force_response_format=True).model_dump(mode="json")
    assert RolloutSpec.model_validate(forced).force_response_format
