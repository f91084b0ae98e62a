"""What a probability is worth: fitted on validation digits, kept in the weights file."""

import numpy as np
import numpy.typing as npt

from nnpipe.network import softmax

RATES = (0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of digits refused by mistake for which a threshold is kept."""

DEFAULT_RATE = 0.001
"""Refusing more costs more digits of other hands than MNIST's own, which thresholds come from."""


ERROR_BUDGETS = (0.01, 0.005, 0.001)
"""Shares of errors among what is read for which a threshold is kept."""


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature at which the labels are most likely (Guo et al. 2017, section 4.2).

    One number divides all logits: answers stay the same, and a confidence of 90 % comes to mean
    that nine of ten such answers are right.

    Args:
        logits: shape (n, classes).
        labels: shape (n,), integers.
    """
    z = np.asarray(logits, np.float64)
    y = np.asarray(labels).astype(np.intp)

    def loss(inverse: float) -> float:
        p = softmax(z * inverse)[np.arange(len(y)), y]
        return float(-np.log(np.maximum(p, 1e-300)).mean())

    # The loss is convex in 1/T, so thirds can be cut off on the side of the larger loss.
    low, high = 0.02, 50.0
    while high - low > 1e-4 * low:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return 2 / (low + high)


def thresholds(confidences: npt.ArrayLike) -> dict[str, float]:
    """For each of `RATES` the confidence below which that share of digits lies."""
    found = np.asarray(confidences, np.float64)
    # At a rate of 0 nothing is refused, whatever comes.
    return {str(rate): float(np.quantile(found, rate)) if rate else 0.0 for rate in RATES}


def threshold(kept: dict[str, float], rate: float) -> float:
    """The confidence that refuses this share of digits, between two kept ones by interpolation."""
    rates = sorted((float(key), value) for key, value in kept.items())
    return float(np.interp(rate, [key for key, _ in rates], [value for _, value in rates]))


def error_thresholds(confidences: npt.ArrayLike, right: npt.ArrayLike) -> dict[str, float | None]:
    """For each of `ERROR_BUDGETS` the lowest confidence above which no more is wrong than that.

    Args:
        confidences: shape (n,).
        right: shape (n,), whether the answers are right.

    Returns:
        None for a budget that even the surest answers exceed.
    """
    c = np.asarray(confidences, np.float64)
    order = np.argsort(-c, kind="stable")
    ranked = c[order]
    errors = np.cumsum(~np.asarray(right, bool)[order])
    shares = errors / np.arange(1, len(c) + 1)
    # A threshold takes all answers of one confidence or none.
    last = np.append(ranked[1:] < ranked[:-1], True)
    found: dict[str, float | None] = {}
    for budget in ERROR_BUDGETS:
        kept = np.flatnonzero(last & (shares <= budget))
        everything = kept.size and kept[-1] == len(c) - 1
        found[str(budget)] = 0.0 if everything else float(ranked[kept[-1]]) if kept.size else None
    return found
