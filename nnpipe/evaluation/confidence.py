"""What a confidence is worth: log loss, Brier score, calibration error, and the share of pictures
that can be read automatically within an error budget.
"""

from dataclasses import dataclass

import numpy as np

from nnpipe.evaluation.classes import CLASSES
from nnpipe.evaluation.statistics import Estimate, share, wilson
from nnpipe.network import Array, softmax

BINS = 15
"""Bins of confidence, as in Guo et al. 2017."""

POINTS = 200
"""Points of the risk-coverage curve, at most."""


@dataclass(frozen=True)
class Bin:
    """The pictures whose confidence lies in a range."""

    low: float
    high: float
    n: int
    confidence: float  # the mean
    accuracy: Estimate  # the share that is right


@dataclass(frozen=True)
class Reliability:
    """Measures of probabilities; lower is better."""

    nll: float  # mean of −log p of the true label, ≥ 0
    brier: float  # mean of Σₖ (pₖ − [k = y])², in [0, 2]; one class: no sum, in [0, 1]
    ece: float  # mean of |confidence − accuracy| over the bins, in [0, 1]
    bins: tuple[Bin, ...]  # those that hold pictures


@dataclass(frozen=True)
class ClassReliability:
    """The probability of one digit, as an answer to "is it this digit?", over all pictures."""

    label: int
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Calibration:
    """Reliability before and after division by the temperature in the weights file."""

    temperature: float
    before: Reliability
    after: Reliability
    classes: tuple[ClassReliability, ...]


def calibration(labels: Array, logits: Array, *, temperature: float) -> Calibration:
    """Measure probabilities before and after division of the logits by a temperature.

    Args:
        labels: shape (n,), integers in 0…9.
        logits: float64, shape (n, 10).
        temperature: fitted on validation pictures, above 0.
    """
    before, after = softmax(logits), softmax(logits / temperature)
    return Calibration(
        temperature=temperature,
        before=reliability(labels, before),
        after=reliability(labels, after),
        classes=tuple(
            ClassReliability(k, *(class_reliability(labels, p, label=k) for p in (before, after)))
            for k in range(CLASSES)
        ),
    )


def reliability(labels: Array, p: Array) -> Reliability:
    """Measure all ten probabilities; bins hold the largest one (Guo et al. 2017, section 2).

    Args:
        labels: shape (n,).
        p: shape (n, 10).
    """
    of_label = p[np.arange(len(labels)), labels]
    # Σ (p − y)² = Σ p² − 2 p_y + 1, which needs no one-hot matrix (Brier 1950, eq. 2).
    squares = (p**2).sum(axis=1) - 2 * of_label + 1
    right = p.argmax(axis=1) == labels
    return _measure(of_label, squares, confidence=p.max(axis=1), right=right)


def class_reliability(labels: Array, p: Array, *, label: int) -> Reliability:
    """Measure one digit against all others.

    Source: Nixon et al. 2019, "Measuring Calibration", section 3.2.

    Args:
        labels: shape (n,).
        p: shape (n, 10).
        label: the digit.
    """
    positive, own = labels == label, p[:, label]
    # Not 1 − p: that is rounded to 0 while the sum of the others is still above 0.
    of_label = np.where(positive, own, np.delete(p, label, axis=1).sum(axis=1))
    return _measure(of_label, (own - positive) ** 2, confidence=own, right=positive)


def answer_reliability(confidence: Array, right: Array) -> Reliability:
    """Measure the confidence of answers as the probability that they are right.

    Args:
        confidence: shape (n,), n > 0, in [0, 1].
        right: which answers are right, shape (n,).
    """
    of_truth = np.where(right, confidence, 1 - confidence)
    return _measure(of_truth, (confidence - right) ** 2, confidence=confidence, right=right)


def _measure(of_label: Array, squares: Array, *, confidence: Array, right: Array) -> Reliability:
    """Measure probabilities of true labels, squared errors and confidences, shape (n,) each."""
    # A probability may underflow to 0, which has no logarithm; a rounded sum may exceed 1.
    logs = np.log(np.clip(of_label, np.finfo(np.float64).tiny, 1))
    bins = _bins(confidence, right)
    distances = (b.n * abs(b.accuracy.value - b.confidence) for b in bins)
    ece = sum(distances) / len(right)
    return Reliability(float(-logs.mean()) + 0.0, float(squares.mean()), ece, bins)


def _bins(confidence: Array, right: Array) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    number = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(number, minlength=BINS)
    hits = np.bincount(number, right, BINS).astype(int)
    sums = np.bincount(number, confidence, BINS)
    columns = (column.tolist() for column in (edges[:-1], edges[1:], n, sums, hits))
    return tuple(
        Bin(low, high, n, confidences / n, wilson(hits, n))
        for low, high, n, confidences, hits in zip(*columns, strict=True)
        if n
    )


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
    confidences: Array, wrong: Array, *, thresholds: dict[float, float | None]
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
