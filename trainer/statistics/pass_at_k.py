"""Chances of solving an item in k draws, estimated without bias from n graded samples.

pass@k is the estimator of Chen et al. (arXiv 2107.03374, section 2.1); the mixture at equal budget takes half
of the draws from each mode (design notes, section 4).
"""

from math import comb


def none_correct(n: int, c: int, k: int) -> float:
    """C(n - c, k) / C(n, k): the chance that k of n samples, drawn without return, hold no correct one.

    Raises ValueError unless 0 <= c <= n and 0 <= k <= n.
    """
    if not (0 <= c <= n and 0 <= k <= n):
        raise ValueError(f"{k} draws from {n} samples of which {c} are correct")
    return comb(n - c, k) / comb(n, k)


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k)."""
    return 1.0 - none_correct(n, c, k)


def mixture_pass_at_k(normal: tuple[int, int], high: tuple[int, int], k: int) -> float:
    """1 - [C(n_N - c_N, k/2) / C(n_N, k/2)] [C(n_H - c_H, k/2) / C(n_H, k/2)]: k draws, half from each mode.

    Args:
        normal: (n, c) of the normal mode's samples.
        high: (n, c) of the high-entropy mode's.
        k: even.
    """
    if k % 2:
        raise ValueError(f"k is {k}: half of the draws come from each mode, so it must be even")
    return 1.0 - none_correct(*normal, k // 2) * none_correct(*high, k // 2)


def solved_only_by_first(first: tuple[int, int], second: tuple[int, int], m: int) -> float:
    """The chance that m draws from ``first`` (n, c) solve the item and m from ``second`` do not."""
    return pass_at_k(*first, m) * none_correct(*second, m)


def solved_only_by_second_draw(n: int, c: int, m: int) -> float:
    """The same between two disjoint draws of m from one mode: what chance alone solves "only" there.

    P(first m fail) - P(all 2m fail), without bias for independent samples; needs 2m <= n.
    """
    return none_correct(n, c, m) - none_correct(n, c, 2 * m)


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... up to n: the values of k that are reported."""
    return [2**i for i in range(n.bit_length()) if 2**i <= n]
