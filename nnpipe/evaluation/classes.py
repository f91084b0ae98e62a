"""The confusion matrix, and precision, recall and F1 of each digit."""

from dataclasses import dataclass

import numpy as np

from nnpipe.evaluation.statistics import Estimate, percentiles, share
from nnpipe.network import Array

CLASSES = 10

RESAMPLES = 2000
"""Bootstrap samples."""


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one digit. An estimate is None if its denominator is 0."""

    label: int
    support: int  # pictures with this label
    predicted: int  # pictures read as it
    precision: Estimate | None  # share of pictures read as it that show it
    recall: Estimate | None  # share of pictures with the label that are read as it
    f1: Estimate | None  # their harmonic mean: 2 hits / (support + predicted)
    confused_with: int | None  # the digit it is most often misread as; None: it never is
    confused: int  # pictures misread as that digit


@dataclass(frozen=True)
class Pair:
    """A digit that is misread as another."""

    label: int
    answer: int
    count: int


def confusion_matrix(labels: Array, answers: Array) -> Array:
    """Count pictures by label (row) and answer (column): shape (10, 10)."""
    cells = np.bincount(labels * CLASSES + answers, minlength=CLASSES**2)
    return cells.reshape(CLASSES, CLASSES)


def confusion_shares(confusion: Array) -> tuple[tuple[float | None, ...], ...]:
    """Return each count as a share of its label; None if the label does not occur."""
    return tuple(
        tuple(count / sum(row) if sum(row) else None for count in row) for row in confusion.tolist()
    )


def confused_pairs(confusion: Array) -> tuple[Pair, ...]:
    """Return the counts above 0 off the diagonal, the largest first."""
    counts = np.ndenumerate(_errors(confusion))
    pairs = [Pair(label, answer, int(n)) for (label, answer), n in counts if n]
    return tuple(sorted(pairs, key=lambda pair: -pair.count))


def class_figures(confusion: Array) -> tuple[ClassFigures, ...]:
    """Return the figures of the ten digits."""
    figures = []
    for label, errors in enumerate(_errors(confusion)):
        support, predicted = int(confusion[label].sum()), int(confusion[:, label].sum())
        hits = int(confusion[label, label])
        figures.append(
            ClassFigures(
                label=label,
                support=support,
                predicted=predicted,
                precision=share(hits, predicted),
                recall=share(hits, support),
                f1=f1(hits, support=support, predicted=predicted),
                confused_with=int(errors.argmax()) if errors.any() else None,
                confused=int(errors.max()),
            )
        )
    return tuple(figures)


def _errors(confusion: Array) -> Array:
    """Return a confusion matrix without its diagonal."""
    return np.where(np.eye(CLASSES, dtype=bool), 0, confusion)


def macro_f1(confusion: Array) -> Estimate:
    """Return the mean F1 of the digits that occur.

    The interval is a bootstrap: it draws the pictures 2,000 times with replacement. F1 depends on
    a picture only through its cell of the matrix, so the bootstrap draws cells. It takes the same
    time for any number of pictures.
    """
    n = int(confusion.sum())
    samples = np.random.default_rng(0).multinomial(n, confusion.ravel() / n, RESAMPLES)
    occurring = confusion.sum(axis=1) > 0
    resampled = _f1(samples.reshape(-1, CLASSES, CLASSES))[:, occurring]
    # A sample may hold no picture of a digit and no answer of it; its F1 is then undefined.
    defined = ~np.isnan(resampled)
    means = np.where(defined, resampled, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
    return percentiles(float(_f1(confusion[np.newaxis])[0, occurring].mean()), means)


def _f1(confusion: Array) -> Array:
    """Return F1 for n matrices, shape (n, 10); NaN for a digit that is neither label nor answer."""
    hits = confusion.diagonal(axis1=1, axis2=2)
    total = confusion.sum(axis=1) + confusion.sum(axis=2)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        f1: Array = 2 * hits / total
    return f1


def f1(hits: int, *, support: int, predicted: int) -> Estimate | None:
    """Return F1 of one digit with its interval; None if the digit is neither label nor answer.

    F1 is not a share, but J = hits / (pictures that show the digit or are read as it) is one and
    has a Wilson interval. F1 = 2 J / (1 + J) grows with J, so the ends of J give those of F1 (Lam,
    Gopal & Qian 2023, "Confidence Intervals for the F1 Score", the Wilson indirect method). A
    bootstrap agrees for digits with errors, but gives no width at all without errors.
    """
    jaccard = share(hits, support + predicted - hits)
    if jaccard is None:
        return None
    return Estimate(*(2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high)))
