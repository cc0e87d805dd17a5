"""The gradient of confident tokens in bfloat16, against float64 arithmetic on the same inputs.

    python -m benchmarks.logprob_gradients

One row a mean probability of the sampled tokens: the size of the error of the hidden states' gradient, in
percent of that gradient's size, where the probabilities are kept for the way back, where they are computed
again, and where half of the tokens are kept; and how far the order of the tokens moves the last. 10 seconds.
"""

import torch
from torch import Tensor

from trainer.model.logprobs import token_logprobs

TOKENS, VOCABULARY, WIDTH, CHUNK = 512, 2048, 64, 128
MEANS = (0.90, 0.95, 0.98, 0.99, 0.995)
KEPT = {"kept": 1 << 40, "computed again": 0, "half of each": TOKENS // 2 * VOCABULARY * 2}


def confident_tokens(mean: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states (T, D), output matrix (V, D), sampled tokens (T,) of the mean probability ``mean``, and
    the gradients of their log-probabilities (T,), of which both signs occur."""
    draw = torch.Generator().manual_seed(seed)
    output_VD = torch.randn(VOCABULARY, WIDTH, generator=draw) / WIDTH**0.5
    token_T = torch.randint(VOCABULARY, (TOKENS,), generator=draw)
    noise_TD = torch.randn(TOKENS, WIDTH, generator=draw)
    low, high = 1.0, 100.0
    for _ in range(20):  # how strongly the states point at their tokens, by bisection
        scale = (low + high) / 2
        logits_TV = (scale * output_VD[token_T] + noise_TD) @ output_VD.t()
        found = float(logits_TV.softmax(-1).gather(-1, token_T[:, None]).mean())
        low, high = (scale, high) if found < mean else (low, scale)
    advantage_T = torch.randn(TOKENS, generator=draw) / TOKENS
    return (low * output_VD[token_T] + noise_TD).bfloat16(), output_VD.bfloat16(), token_T, advantage_T


def gradient(
    hidden_TD: Tensor, output_VD: Tensor, token_T: Tensor, weight_T: Tensor, kept_bytes: int
) -> Tensor:
    """d sum_t w_t log pi(o_t) / d hidden, (T, D), as training computes it."""
    hidden_TD = hidden_TD.clone().requires_grad_()
    logp_T, _ = token_logprobs(hidden_TD, output_VD, token_T, chunk=CHUNK, kept_bytes=kept_bytes)
    (found,) = torch.autograd.grad((logp_T * weight_T).sum(), hidden_TD)
    return found


def exact_gradient(hidden_TD: Tensor, output_VD: Tensor, token_T: Tensor, weight_T: Tensor) -> Tensor:
    """The same in float64 from the same numbers, by autograd."""
    hidden_TD = hidden_TD.double().requires_grad_()
    logp_TV = (hidden_TD @ output_VD.double().t()).log_softmax(-1)
    logp_T = logp_TV.gather(-1, token_T[:, None]).squeeze(-1)
    (found,) = torch.autograd.grad((logp_T * weight_T.double()).sum(), hidden_TD)
    return found


def share(error: Tensor, of: Tensor) -> float:
    """The size of ``error`` relative to that of ``of``."""
    return float(error.double().norm() / of.double().norm())


def errors(mean: float, seed: int = 0) -> dict[str, float]:
    """Each path's error, and what the order of the tokens changes where half of them are kept."""
    inputs = confident_tokens(mean, seed)
    exact = exact_gradient(*inputs)
    found = {name: share(gradient(*inputs, kept) - exact, exact) for name, kept in KEPT.items()}
    hidden_TD, output_VD, token_T, weight_T = inputs
    back = gradient(hidden_TD.flip(0), output_VD, token_T.flip(0), weight_T.flip(0), KEPT["half of each"])
    forth = gradient(*inputs, KEPT["half of each"])
    return found | {"by order": share(back.flip(0).double() - forth.double(), exact)}


def main() -> None:
    """Print the table."""
    print("| mean p | " + " | ".join([*KEPT, "by order"]) + " |\n|" + "---|" * (len(KEPT) + 2))
    for mean in MEANS:
        print(f"| {mean} | " + " | ".join(f"{100 * error:.2f} %" for error in errors(mean).values()) + " |")


if __name__ == "__main__":
    main()
