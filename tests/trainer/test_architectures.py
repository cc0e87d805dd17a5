"""Models of several families: scoring against a plain forward pass, greedy rollouts against ``generate``."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.fixtures.architectures import WINDOW, build_architecture
from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.spec.modes import Mode

LAYOUTS = {
    "llama-tied": "shared_prefix",
    "llama-untied": "shared_prefix",
    "qwen3-tied": "shared_prefix",
    "qwen3-untied": "shared_prefix",
    "mistral-untied-windows": "per_row",
    "gemma3-windows": "per_row",
}


@pytest.fixture(scope="module", params=LAYOUTS)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """One architecture, in float64."""
    policy = load_tiny_policy(build_architecture(tmp_path_factory.mktemp("models"), request.param))
    assert policy.layout == LAYOUTS[request.param]
    assert policy.model.config.tie_word_embeddings is ("untied" not in request.param)
    return policy


def plain(policy: Policy, group, mode: Mode) -> torch.Tensor:
    """Log-probabilities by one unpadded forward pass of the whole model a response."""
    found = []
    for rollout in group.rollouts:
        ids = group.prompt_ids[mode] + rollout.response_ids
        log_p = policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        first = len(group.prompt_ids[mode])
        found += [log_p[t - 1, ids[t]] for t in range(first, len(ids))]
    return torch.stack(found)


def test_scores_and_their_gradients_are_those_of_a_plain_forward_pass(policy: Policy):
    """Responses longer and shorter than a window, in both modes (float64; positions are float32 inside)."""
    group = make_group(policy, [1, 0, 1, 0], [N, H, N, H], lengths=[WINDOW + 6, 3, 1, 9])
    gradients = []
    (scored,) = score_groups(policy, [group], tuple(Mode))
    for found in (
        {mode: scored[mode].logp_T for mode in Mode},
        {mode: plain(policy, group, mode) for mode in Mode},
    ):
        policy.model.zero_grad()
        torch.cat(list(found.values())).square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in policy.model.named_parameters()})
    policy.model.zero_grad()
    for mode in Mode:
        expected = plain(policy, group, mode)
        assert float(expected.detach().std()) > 0.5
        assert torch.allclose(scored[mode].logp_T, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients[1].items():
        scale = float(gradient.abs().max())
        assert torch.allclose(gradients[0][name], gradient, rtol=1e-4, atol=1e-5 * scale), name


def test_greedy_rollouts_are_those_of_generate(policy: Policy):
    """Prompts of three lengths in one batch, on past the window."""
    prompts = [tuple(range(40, 40 + length)) for length in (3, WINDOW - 1, WINDOW + 8)]
    requests = [SampleRequest(prompt, seed=i) for i, prompt in enumerate(prompts)]
    samples = TransformersEngine(policy).generate(requests, max_tokens=2 * WINDOW, temperature=1e-6)
    for prompt, sample in zip(prompts, samples, strict=True):
        expected = policy.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=2 * WINDOW,
        )
        assert sample.response_ids == expected[0, len(prompt) :].tolist()
    assert len({tuple(s.response_ids) for s in samples}) == 3


def test_nothing_is_as_large_as_a_row_squared(policy: Policy):
    """No mask, no scores: in no operation of the way there and back, whatever layout and windows."""
    group = make_group(policy, [1, 0], [N, N], lengths=[97, 91])
    length = len(group.prompt_ids[N]) + (97 if policy.layout == "per_row" else 97 + 91)
    seen: set[tuple[int, ...]] = set()

    class Shapes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            seen.update(tuple(x.shape) for x in tree_leaves(found) if isinstance(x, torch.Tensor))
            return found

    with Shapes():
        (scored,) = score_groups(policy, [group], (N,))
        scored[N].logp_T.sum().backward()
    policy.model.zero_grad()
    assert any(length in shape for shape in seen)
    assert not [shape for shape in seen if shape.count(length) > 1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("phi-biased", "bias"),
        ("gemma2-capped", "cap their final logits"),
        ("granite-scaled", "not the product"),
    ],
)
def test_output_layers_that_would_be_computed_wrongly_are_refused(tmp_path: Path, name: str, reason: str):
    with pytest.raises(InvalidSpec, match=reason) as caught:
        load_tiny_policy(build_architecture(tmp_path, name))
    assert caught.value.param == "model.path"
