"""What a probability is worth: log loss, Brier score, and how far confidence is from accuracy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.evaluation.classes import CLASSES
from nnpipe.evaluation.intervals import Estimate, wilson
from nnpipe.network import softmax

BINS = 15
"""As many as Guo et al. 2017 take."""

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """The pictures whose confidence lies in one range."""

    low: float
    high: float
    n: int
    confidence: float  # their mean
    accuracy: Estimate  # the share that is right


@dataclass(frozen=True)
class Reliability:
    """How good probabilities are; the lower, the better."""

    nll: float  # mean of −log p of the true label, ≥ 0
    brier: float  # mean of Σₖ (pₖ − [k = y])², in [0, 2]; for one class without the sum, in [0, 1]
    ece: float  # mean distance of confidence and accuracy over the bins, in [0, 1]
    bins: tuple[Bin, ...]  # those that hold pictures


@dataclass(frozen=True)
class ClassReliability:
    """One digit's probability against whether it is that digit, over all pictures."""

    label: int
    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Calibration:
    """Reliability as trained and after the temperature that the weights carry."""

    temperature: float
    before: Reliability
    after: Reliability
    classes: tuple[ClassReliability, ...]


def calibration(labels: npt.ArrayLike, logits: npt.ArrayLike, temperature: float) -> Calibration:
    """Measure probabilities before and after scaling by a temperature.

    Args:
        labels: shape (n,), integers in 0…9.
        logits: shape (n, 10).
        temperature: what was fitted on validation pictures, above 0.
    """
    y, z = np.asarray(labels), np.asarray(logits, np.float64)
    before, after = softmax(z), softmax(z / temperature)
    return Calibration(
        temperature=temperature,
        before=reliability(y, before),
        after=reliability(y, after),
        classes=tuple(
            ClassReliability(
                label,
                class_reliability(y, before, label),
                class_reliability(y, after, label),
            )
            for label in range(CLASSES)
        ),
    )


def reliability(labels: npt.NDArray[np.integer], p: Probabilities) -> Reliability:
    """All ten probabilities together; bins are over the largest (Guo et al. 2017, section 2).

    Args:
        labels: shape (n,).
        p: shape (n, 10).
    """
    rows = np.arange(len(labels))
    bins = _bins(p.max(axis=1), p.argmax(axis=1) == labels)
    # Σ (p − y)² = Σ p² − 2 p_y + 1, with no matrix of zeros and ones (Brier 1950, eq. 2).
    brier = (p**2).sum(axis=1) - 2 * p[rows, labels] + 1
    return Reliability(_log_loss(p[rows, labels]), float(brier.mean()), _ece(bins), bins)


def class_reliability(labels: npt.NDArray[np.integer], p: Probabilities, label: int) -> Reliability:
    """One digit against all others (Nixon et al. 2019, "Measuring Calibration", section 3.2).

    Args:
        labels: shape (n,).
        p: shape (n, 10).
        label: the digit.
    """
    is_it, of_it = labels == label, p[:, label]
    bins = _bins(of_it, is_it)
    # The others' sum, since 1 − p is 0 long before they are.
    loss = _log_loss(np.where(is_it, of_it, np.delete(p, label, axis=1).sum(axis=1)))
    return Reliability(loss, float(((of_it - is_it) ** 2).mean()), _ece(bins), bins)


def _log_loss(p: Probabilities) -> float:
    # A probability may underflow to 0, whose logarithm would be infinite; a sum may exceed 1.
    return float(-np.log(np.clip(p, np.finfo(np.float64).tiny, 1)).mean()) + 0.0


def _bins(confidence: Probabilities, right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    number = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(number, minlength=BINS)
    hits = np.bincount(number, right, BINS).astype(int)
    sums = np.bincount(number, confidence, BINS)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n[i]),
            float(sums[i] / n[i]),
            wilson(int(hits[i]), int(n[i])),
        )
        for i in np.flatnonzero(n)
    )


def _ece(bins: tuple[Bin, ...]) -> float:
    n = sum(b.n for b in bins)
    return sum(b.n * abs(b.accuracy.value - b.confidence) for b in bins) / n
