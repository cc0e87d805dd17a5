"""Which of several engines samples what."""

from collections.abc import Sequence

from trainer.rollout.engine import SampleRequest


def spread(requests: Sequence[SampleRequest], parts: int, max_tokens: int) -> list[list[int]]:
    """The indices of ``requests`` in so many parts, by prefix and by load.

    Requests with the same prompt stay together, for an engine computes it once. The largest such bundle
    goes first, to the part that has the fewest tokens to compute at the most, of several the first one. It
    depends on nothing but the requests: the same ones make the same batches.
    """
    bundles: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        bundles.setdefault(request.prompt_ids, []).append(index)
    found: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    by_size = sorted(bundles.items(), key=lambda item: -_load(*item, max_tokens))
    for prompt, indices in by_size:
        lightest = loads.index(min(loads))
        loads[lightest] += _load(prompt, indices, max_tokens)
        found[lightest] += indices
    return [sorted(part) for part in found]


def _load(prompt: tuple[int, ...], indices: Sequence[int], max_tokens: int) -> int:
    """Tokens at the most: the prompt once, and every response."""
    return len(prompt) + len(indices) * max_tokens
