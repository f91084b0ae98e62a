"""What is taken for what: the confusion matrix, and precision, recall and F1 for each digit."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.evaluation.intervals import Estimate, percentiles, share

CLASSES = 10
RESAMPLES = 2000

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassFigures:
    """One digit's figures; None where there is nothing to divide by."""

    label: int
    support: int  # pictures with this label
    predicted: int  # pictures taken for it
    precision: Estimate | None  # share of those taken for it that are it
    recall: Estimate | None  # share of those with the label that were found
    f1: Estimate | None  # harmonic mean of both: 2 hits / (support + predicted)
    confused_with: int | None  # what it was most often taken for; None if never for another
    confused: int  # how often


@dataclass(frozen=True)
class Pair:
    """A digit that was taken for another."""

    label: int
    answer: int
    count: int


def confusion_matrix(labels: npt.ArrayLike, answers: npt.ArrayLike) -> Counts:
    """How often each label, the row, got each answer, the column: shape (10, 10)."""
    cells = np.asarray(labels, np.int64) * CLASSES + np.asarray(answers)
    return np.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def confused_pairs(confusion: Counts) -> tuple[Pair, ...]:
    """Every pair that occurs off the diagonal, the most frequent first."""
    rows, columns = np.nonzero(confusion * (1 - np.eye(CLASSES, dtype=np.int64)))
    pairs = [Pair(int(r), int(c), int(confusion[r, c])) for r, c in zip(rows, columns, strict=True)]
    return tuple(sorted(pairs, key=lambda pair: -pair.count))


def class_figures(confusion: Counts) -> tuple[ClassFigures, ...]:
    """The ten digits' figures."""
    return tuple(_figures(label, confusion) for label in range(CLASSES))


def macro_f1(confusion: Counts) -> Estimate:
    """The mean F1 of the digits that occur.

    Its interval comes from drawing the pictures anew, with replacement, 2,000 times. All that F1
    takes of a picture is its cell of the matrix, so drawing pictures is drawing cells, however
    many pictures there are.
    """
    n = int(confusion.sum())
    drawn = np.random.default_rng(0).multinomial(n, confusion.ravel() / n, RESAMPLES)
    occurring = confusion.sum(axis=1) > 0
    resampled = _f1(drawn.reshape(-1, CLASSES, CLASSES))[:, occurring]
    # A digit that occurs but was never drawn, nor answered, has none this time.
    there = ~np.isnan(resampled)
    means = np.where(there, resampled, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return percentiles(float(_f1(confusion[np.newaxis])[0, occurring].mean()), means)


def _f1(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """F1 of each class, shape (n, 10), of n matrices; NaN for what neither is nor is answered."""
    hits = confusion.diagonal(axis1=1, axis2=2)
    asked = confusion.sum(axis=1) + confusion.sum(axis=2)
    f1: npt.NDArray[np.float64] = np.full(hits.shape, np.nan)
    np.divide(2 * hits, asked, out=f1, where=asked > 0)
    return f1


def _figures(label: int, confusion: Counts) -> ClassFigures:
    support, predicted = int(confusion[label].sum()), int(confusion[:, label].sum())
    hits = int(confusion[label, label])
    others = confusion[label].copy()
    others[label] = 0
    return ClassFigures(
        label=label,
        support=support,
        predicted=predicted,
        precision=share(hits, predicted),
        recall=share(hits, support),
        f1=f1(hits, support, predicted),
        confused_with=int(others.argmax()) if others.any() else None,
        confused=int(others.max()),
    )


def f1(hits: int, support: int, predicted: int) -> Estimate | None:
    """F1 of one digit, with its interval; None where there is nothing to divide by.

    F1 itself is no share of anything. But J = hits / (pictures that are or were taken for the
    digit) is one, and has a Wilson interval; F1 = 2 J / (1 + J) grows with it, so its ends are
    those of J (Lam, Gopal & Qian 2023, "Confidence Intervals for the F1 Score", the Wilson
    indirect method). The bootstrap finds much the same for digits with errors, and no width at
    all for those with none.
    """
    jaccard = share(hits, support + predicted - hits)
    if jaccard is None:
        return None
    return Estimate(*(2 * j / (1 + j) for j in (jaccard.value, jaccard.low, jaccard.high)))
