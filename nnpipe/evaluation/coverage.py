"""How much can be read without a person, if so many errors are allowed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.evaluation.intervals import Estimate, share

POINTS = 200


@dataclass(frozen=True)
class Budget:
    """What is read when at most this share of it may be wrong."""

    budget: float
    threshold: float | None  # chosen on validation; None: no threshold kept to the budget there
    read: int  # pictures of at least this confidence
    coverage: float  # their share of all
    errors: int  # those read wrong
    error: Estimate | None  # their share of what is read
    kept: bool | None  # whether the interval of that lies within the budget, or beyond; or neither


@dataclass(frozen=True)
class Point:
    """A point of the curve: the most confident share of the pictures, and how much of it is wrong.

    It is the risk-coverage curve (El-Yaniv & Wiener 2010, section 2).
    """

    coverage: float
    error: float


@dataclass(frozen=True)
class Coverage:
    """Coverage against error."""

    budgets: tuple[Budget, ...]
    curve: tuple[Point, ...]


def keep_budgets(
    confidences: npt.ArrayLike,
    wrong: npt.ArrayLike,
    thresholds: dict[float, float | None],
) -> Coverage:
    """Apply thresholds that were chosen elsewhere.

    Args:
        confidences: shape (n,), of each answer, in [0, 1]; −1 for one that is never taken.
        wrong: shape (n,), whether it is wrong.
        thresholds: budget → threshold.
    """
    c, errors = np.asarray(confidences, np.float64), np.asarray(wrong, bool)
    order = np.argsort(-c, kind="stable")
    wrong_so_far = np.cumsum(errors[order])
    n = len(c)
    counts = np.unique(np.linspace(1, n, min(n, POINTS)).round().astype(int))
    return Coverage(
        tuple(_budget(c, errors, budget, t) for budget, t in thresholds.items()),
        tuple(Point(int(k) / n, int(wrong_so_far[k - 1]) / int(k)) for k in counts),
    )


def _budget(
    c: npt.NDArray[np.float64],
    wrong: npt.NDArray[np.bool_],
    budget: float,
    threshold: float | None,
) -> Budget:
    taken = c >= threshold if threshold is not None else np.zeros(len(c), bool)
    read, errors = int(taken.sum()), int(wrong[taken].sum())
    error = share(errors, read)
    kept = None
    if error and (error.high <= budget or error.low > budget):
        kept = error.high <= budget
    return Budget(budget, threshold, read, read / len(c), errors, error, kept)
