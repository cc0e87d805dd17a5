"""What intervals and tests ask of scipy: distributions and roots, as numbers.

The only file that knows scipy, which says nothing of its types; hence the one that is not checked strictly.
"""
# pyright: basic

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import optimize, special, stats
from scipy.optimize import elementwise


def t_quantile(share: float, freedom: float) -> float:
    """The value below which ``share`` of Student's t distribution lies."""
    return float(stats.t.ppf(share, freedom))


def t_quantiles(shares: np.ndarray, freedom: float) -> np.ndarray:
    """:func:`t_quantile` of many ``shares`` (...) at once; (...)."""
    return special.stdtrit(freedom, shares)


def t_critical(alpha: float, freedom: float) -> float:
    """The value that Student's t lies beyond, on either side of zero, with a chance of ``alpha``."""
    return float(stats.t.isf(alpha / 2, freedom))


def t_tails(values: np.ndarray, freedom: float) -> np.ndarray:
    """The share of Student's t distribution outside ±``values`` (...), which are positive; (...)."""
    return 2.0 * stats.t.sf(values, freedom)


def normal_quantile(share: float) -> float:
    """The value below which ``share`` of the standard normal distribution lies."""
    return float(stats.norm.ppf(share))


def normal_below(values: np.ndarray) -> np.ndarray:
    """The share of the standard normal distribution below each of ``values`` (...); (...)."""
    return special.ndtr(values)


def chi_square_quantile(share: float, freedom: float) -> float:
    """The value below which ``share`` of the chi-square distribution lies."""
    return float(stats.chi2.ppf(share, freedom))


def chi_square_quantiles(shares: np.ndarray, freedom: float) -> np.ndarray:
    """:func:`chi_square_quantile` of many ``shares`` (...) at once; (...)."""
    return stats.chi2.ppf(shares, freedom)


def log_odds(share: float) -> float:
    """log share / (1 - share)."""
    return float(special.logit(share))


def share_of(value: float) -> float:
    """The share whose :func:`log_odds` is ``value``."""
    return float(special.expit(value))


def standard_error(values_S: np.ndarray) -> float:
    """Of the mean of ``values_S`` (S,), from their spread with S - 1 degrees of freedom."""
    return float(stats.sem(values_S))


def t_test_p(values_S: np.ndarray) -> float:
    """Two-sided p of Student's test that the mean of ``values_S`` (S,) is zero."""
    result: Any = stats.ttest_1samp(values_S, 0.0)
    return float(result.pvalue)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where ``function``, of unlike signs at ``low`` and ``high``, is zero."""
    found: Any = optimize.brentq(function, low, high)
    return float(found)


def roots(
    function: Callable[..., np.ndarray], low: np.ndarray, high: np.ndarray, args: tuple[np.ndarray, ...]
) -> np.ndarray:
    """:func:`root` of many functions at once: element by element of ``low``, ``high`` and ``args`` (...).

    Args:
        function: of places and, after them, ``args``, all of one shape, which may be some of the elements.
    """
    return elementwise.find_root(function, (low, high), args=args).x
