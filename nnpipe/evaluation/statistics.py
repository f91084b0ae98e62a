"""95 % confidence intervals, and a test whether one network reads better than another."""

import math
from dataclasses import dataclass

import numpy as np

from nnpipe.network import Array

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution: 95 % of it lie in ±Z."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def share(hits: int, n: int) -> Estimate | None:
    """Return the share ``hits / n`` with its Wilson interval; None if ``n`` is 0."""
    return wilson(hits, n) if n else None


def wilson(hits: int, n: int) -> Estimate:
    """Return the share ``hits / n``, for ``n`` ≥ 1, with its Wilson score interval.

    Unlike the common p ± z·σ, it also holds for shares near 0 and 1 (Wilson 1927, "Probable
    Inference"; Brown, Cai & DasGupta 2001, section 3.1.1).
    """
    p = hits / n
    middle = p + Z**2 / (2 * n)
    half = Z * float(np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)))
    low, high = ((middle + sign * half) / (1 + Z**2 / n) for sign in (-1, 1))
    # Rounding must not move an end past a share of 0 or 1.
    return Estimate(p, min(max(low, 0.0), p), max(min(high, 1.0), p))


def percentiles(value: float, resampled: Array) -> Estimate:
    """Return a figure with the middle 95 % of its values on resampled data.

    This is the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value))


@dataclass(frozen=True)
class Comparison:
    """How many pictures the new and the old network read right."""

    both_right: int
    gained: int  # only the new one
    lost: int  # only the old one
    both_wrong: int
    p_value: float  # of the exact McNemar test


def compare(new: Array, old: Array) -> Comparison:
    """Compare two masks of the pictures that are read right, shape (n,) each."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return Comparison(
        both_right=int((new & old).sum()),
        gained=gained,
        lost=lost,
        both_wrong=int((~new & ~old).sum()),
        p_value=mcnemar(gained, lost),
    )


def mcnemar(gained: int, lost: int) -> float:
    """Return the p-value of the exact two-sided McNemar test.

    Source: McNemar 1947; exact: Agresti 2002, section 10.1.1. Only pictures on which the networks
    differ count. If both are equally good, each of those is gained or lost with probability ½.
    """
    n, fewer = gained + lost, min(gained, lost)
    if n - fewer - fewer <= 1:  # every outcome is at least as extreme
        return 1.0
    # 2ⁿ overflows a float, so terms are computed as logarithms.
    log_terms = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_terms)))
