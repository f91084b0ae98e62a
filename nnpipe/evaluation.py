"""How good are the answers: the confusion matrix, and precision, recall and F1 per class."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.errors import EvaluationError

CLASSES = 10


@dataclass(frozen=True)
class ClassFigures:
    """One digit's figures, in [0, 1]; None where there is nothing to divide by."""

    label: int
    support: int  # digits with this label
    predicted: int  # digits taken for it
    precision: float | None  # share of those taken for it that are it
    recall: float | None  # share of those with the label that were found
    f1: float | None  # harmonic mean of both: 2 hits / (support + predicted)
    confused_with: int | None  # what it was most often taken for; None if never for another


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    n: int
    errors: int
    accuracy: float  # in [0, 1]
    loss: float  # mean of −log p of the true labels
    macro_f1: float  # mean F1 of the digits that occur
    confusion: npt.NDArray[np.int64]  # (10, 10): row = label, column = answer
    classes: tuple[ClassFigures, ...]  # ten, by label


def evaluate(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Evaluation:
    """Compare answers with labels.

    Args:
        labels: shape (n,), integers in 0…9.
        probabilities: shape (n, 10), in [0, 1]; the largest of a row is the answer.

    Raises:
        EvaluationError: there is nothing to compare, shapes differ, a label is not in 0…9, or a
            probability is not finite.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    if not y.size:
        raise EvaluationError("there are no digits to evaluate")
    if p.shape != (y.size, CLASSES):
        raise EvaluationError(f"{y.size} labels need probabilities ({y.size}, 10), got {p.shape}")
    if y.min() < 0 or y.max() >= CLASSES:
        raise EvaluationError(f"labels must lie in 0…9, found {y.min()}…{y.max()}")
    if not np.isfinite(p).all():
        raise EvaluationError("probabilities must be finite, found NaN or infinity")

    answers = p.argmax(axis=1)
    confusion = np.bincount(y.astype(np.int64) * CLASSES + answers, minlength=CLASSES**2)
    confusion = confusion.reshape(CLASSES, CLASSES)
    classes = tuple(_class_figures(label, confusion) for label in range(CLASSES))
    hits = int(confusion.trace())
    # A float32 probability may underflow to 0, whose logarithm would be infinite.
    true = np.maximum(p[np.arange(y.size), y], np.finfo(np.float32).tiny)
    return Evaluation(
        n=y.size,
        errors=y.size - hits,
        accuracy=hits / y.size,
        loss=float(-np.log(true).mean()),
        macro_f1=float(np.mean([c.f1 for c in classes if c.support and c.f1 is not None])),
        confusion=confusion,
        classes=classes,
    )


def _class_figures(label: int, confusion: npt.NDArray[np.int64]) -> ClassFigures:
    support, predicted = int(confusion[label].sum()), int(confusion[:, label].sum())
    hits = int(confusion[label, label])
    others = confusion[label].copy()
    others[label] = 0
    return ClassFigures(
        label=label,
        support=support,
        predicted=predicted,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
        confused_with=int(others.argmax()) if others.any() else None,
    )
