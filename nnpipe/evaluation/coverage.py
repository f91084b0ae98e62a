"""The share of pictures that can be read automatically within an error budget."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.evaluation.intervals import Estimate, share

POINTS = 200
"""Points of the curve, at most."""


@dataclass(frozen=True)
class Budget:
    """What is read if at most a given share of it may be wrong."""

    budget: float  # the allowed share of errors
    threshold: float | None  # chosen on validation; None: none keeps the budget there
    read: int  # pictures of at least this confidence
    coverage: float  # their share of all
    errors: int  # those read wrong
    error: Estimate | None  # their share of what is read
    kept: bool | None  # True or False if the whole interval of that says so, else None


@dataclass(frozen=True)
class Point:
    """A point of the risk-coverage curve (El-Yaniv & Wiener 2010, section 2)."""

    coverage: float  # the share of the pictures that is read, the most confident first
    error: float  # the share of those that is wrong


@dataclass(frozen=True)
class Coverage:
    """Coverage at error budgets, and the whole curve."""

    budgets: tuple[Budget, ...]
    curve: tuple[Point, ...]


def apply_budgets(
    confidences: npt.ArrayLike, wrong: npt.ArrayLike, *, thresholds: dict[float, float | None]
) -> Coverage:
    """Apply thresholds that were chosen on validation pictures.

    Args:
        confidences: of the answers, shape (n,), in [0, 1]; −1 for an answer that is never taken.
        wrong: which answers are wrong, shape (n,).
        thresholds: budget → threshold.
    """
    c, errors = np.asarray(confidences, np.float64), np.asarray(wrong, bool)
    n, budgets = len(c), []
    for budget, threshold in thresholds.items():
        taken = c >= (np.inf if threshold is None else threshold)
        read, misread = int(taken.sum()), int(errors[taken].sum())
        error = share(misread, read)
        kept = None
        if error and (error.high <= budget or error.low > budget):
            kept = error.high <= budget
        budgets.append(Budget(budget, threshold, read, read / n, misread, error, kept))
    errors_so_far = np.cumsum(errors[np.argsort(-c, kind="stable")])
    counts = np.unique(np.linspace(1, n, min(n, POINTS)).round().astype(int)).tolist()
    curve = (Point(k / n, int(errors_so_far[k - 1]) / k) for k in counts)
    return Coverage(tuple(budgets), tuple(curve))
