"""The gradient of tokens that the model is nearly certain of, in bfloat16."""

import pytest
import torch

from benchmarks.logprob_gradients import MEANS, confident_tokens, errors
from trainer.model.logprobs import token_logprobs


@pytest.mark.parametrize("mean", MEANS)
def test_its_error_is_rounding_whichever_tokens_probabilities_are_kept(mean: float):
    """Of the gradient's size, against float64: on both paths, and between two orders of the tokens."""
    found = errors(mean)
    assert max(found.values()) <= 0.003, found


def test_a_certain_token_still_has_its_gradient():
    """At p = 0.9998 a probability rounded to bfloat16 is 1, and 1 - p nothing."""
    hidden_TD, output_VD, token_T, _ = confident_tokens(0.9998)
    gradients = []
    for kept_bytes in (0, 1 << 40):
        variable = hidden_TD.clone().requires_grad_()
        logp_T, _ = token_logprobs(variable, output_VD, token_T, kept_bytes=kept_bytes)
        gradients.append(torch.autograd.grad(logp_T.sum(), variable)[0].double())
    assert float(gradients[0].norm()) > 0
    assert float((gradients[0] - gradients[1]).norm()) <= 0.003 * float(gradients[0].norm())
