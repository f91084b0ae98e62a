"""Calibration: what a probability is worth, fitted on validation digits."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nnpipe.network import softmax

RATES = (0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of digits rejected by mistake for which a threshold is kept."""

DEFAULT_RATE = 0.001
"""Share of digits rejected by mistake unless another one is chosen. Thresholds come from MNIST's
digits; at a higher rate, those of other writers are rejected far more often."""

ERROR_BUDGETS = (0.01, 0.005, 0.001)
"""Shares of errors among the digits read for which a threshold is kept."""


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Fit the temperature at which the labels are most likely (Guo et al. 2017, section 4.2).

    It divides all logits. Answers stay the same, and of the answers with a confidence of 90 %,
    nine in ten are right.

    Args:
        logits: shape (n, classes).
        labels: shape (n,), integers.
    """
    z = np.asarray(logits, np.float64)
    y = np.asarray(labels).astype(np.intp)

    def loss(inverse: float) -> float:
        p = softmax(z * inverse)[np.arange(len(y)), y]
        return float(-np.log(np.maximum(p, 1e-300)).mean())

    # The loss is convex in 1/T, so the third on the side of the larger loss can be cut off.
    low, high = 0.02, 50.0
    while high - low > 1e-4 * low:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return 2 / (low + high)


def thresholds(confidences: npt.ArrayLike) -> dict[str, float]:
    """For each of `RATES`, return the confidence below which that share of digits lies."""
    c = np.asarray(confidences, np.float64)
    # A rate of 0 rejects no picture at all, however low its confidence.
    return {str(rate): float(np.quantile(c, rate)) if rate else 0.0 for rate in RATES}


def threshold(by_rate: dict[str, float], rate: float) -> float:
    """Return the confidence that rejects this share of digits, interpolated from `thresholds`."""
    rates, confidences = zip(*sorted((float(key), c) for key, c in by_rate.items()), strict=True)
    return float(np.interp(rate, rates, confidences))


def error_thresholds(
    confidences: npt.ArrayLike, right: npt.ArrayLike, *, budgets: Iterable[float] = ERROR_BUDGETS
) -> dict[str, float | None]:
    """For each error budget, return the lowest confidence from which on it is kept.

    Args:
        confidences: shape (n,), n > 0.
        right: shape (n,), whether the answers are right.
        budgets: allowed shares of errors.

    Returns:
        0 for a budget that all answers together keep, None for one that not even the surest keep.
    """
    c = np.asarray(confidences, np.float64)
    order = np.argsort(-c, kind="stable")
    ranked = c[order]
    errors = np.cumsum(~np.asarray(right, bool)[order])
    shares = errors / np.arange(1, len(c) + 1)
    # A threshold takes all answers of one confidence or none.
    last = np.append(ranked[1:] < ranked[:-1], True)
    lowest: dict[str, float | None] = {}
    for budget in budgets:
        confidence = min(ranked[last & (shares <= budget)].tolist(), default=None)
        lowest[str(budget)] = 0.0 if confidence == ranked[-1] else confidence
    return lowest
