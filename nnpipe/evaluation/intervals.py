"""How far a share that was counted may lie from the true one: 95 % intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z = 1.959963984540054
"""95 % of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def share(hits: int, n: int) -> Estimate | None:
    """The share ``hits / n`` with its interval; None where ``n`` is 0."""
    return wilson(hits, n) if n else None


def wilson(hits: int, n: int) -> Estimate:
    """The share ``hits / n``, of ``n`` ≥ 1, with its Wilson score interval.

    The interval is right for shares near 0 and 1, too, where the common ± one is not
    (Wilson 1927, "Probable Inference"; Brown, Cai & DasGupta 2001, section 3.1.1).
    """
    p = hits / n
    middle = p + Z**2 / (2 * n)
    half = Z * float(np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)))
    low, high = ((middle + sign * half) / (1 + Z**2 / n) for sign in (-1, 1))
    # Rounding must not put the ends inside of a share of 0 or 1.
    return Estimate(p, min(max(low, 0.0), p), max(min(high, 1.0), p))


def percentiles(value: float, resampled: npt.NDArray[np.float64]) -> Estimate:
    """A figure with the middle 95 % of what it is on resampled data.

    That is the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value, min(float(low), value), max(float(high), value))
