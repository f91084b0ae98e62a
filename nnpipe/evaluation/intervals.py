"""95 % confidence intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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


def percentiles(value: float, resampled: npt.NDArray[np.float64]) -> Estimate:
    """Return a figure with the middle 95 % of its values on resampled data.

    This is the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value))
