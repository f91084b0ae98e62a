"""The figures of a report, from labels and logits.

    classes      confusion, precision, recall, F1
    confidence   log loss, Brier, calibration, and the share read at an error budget
    robustness   accuracy on changed pictures
    numbers      numbers of several digits: right as a whole, kinds of errors, digits
    cases        pictures to look at, and identical ones
    statistics   intervals (Wilson, bootstrap), and the comparison of two networks

`evaluate` takes labels and logits alone; robustness and duplicates take pictures.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.errors import EvaluationError
from nnpipe.evaluation.cases import Cases, choose
from nnpipe.evaluation.classes import (
    CLASSES,
    ClassFigures,
    Pair,
    class_figures,
    confused_pairs,
    confusion_matrix,
    confusion_shares,
    macro_f1,
)
from nnpipe.evaluation.confidence import Calibration, Coverage, apply_budgets, calibration
from nnpipe.evaluation.statistics import Estimate, share, wilson
from nnpipe.network import Array, softmax

__all__ = ["CLASSES", "Evaluation", "evaluate"]


@dataclass(frozen=True)
class Rejection:
    """Pictures rejected for low confidence or by preprocessing, and the accuracy on the others."""

    threshold: float  # of confidence
    rejected: int
    accepted: int
    errors: int  # among the accepted
    accuracy: Estimate | None  # of the accepted


@dataclass(frozen=True)
class Disputed:
    """Pictures whose labels people doubt, and the accuracy without them."""

    indices: tuple[int, ...]
    errors: int  # of the network, among them
    n: int  # pictures without them
    accuracy: Estimate | None  # on those


@dataclass(frozen=True)
class Evaluation:
    """All figures that labels and logits give."""

    n: int
    errors: int
    accuracy: Estimate
    macro_f1: Estimate  # mean F1 of the digits that occur
    classes: tuple[ClassFigures, ...]  # ten, by label
    confusion: Array  # (10, 10): row = label, column = answer
    confusion_shares: tuple[tuple[float | None, ...], ...]  # of each row; None: no such label
    confused_pairs: tuple[Pair, ...]  # the most frequent first
    calibration: Calibration
    coverage: Coverage
    rejection: Rejection
    disputed: Disputed | None  # None: no label is in doubt
    cases: Cases


def evaluate(
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    *,
    temperature: float = 1.0,
    threshold: float = 0.0,
    refused: npt.ArrayLike | None = None,
    error_thresholds: dict[float, float | None] | None = None,
    disputed: frozenset[int] = frozenset(),
) -> Evaluation:
    """Compare answers with labels.

    The answer to a picture is its most probable digit, also when it is rejected. Error budgets
    never read a refused picture.

    Args:
        labels: shape (n,), integers in 0…9.
        logits: shape (n, 10), finite.
        temperature: divides the logits; fitted on validation, above 0.
        threshold: confidence in [0, 1] below which an answer is rejected.
        refused: shape (n,), pictures that preprocessing refuses; by default none.
        error_thresholds: allowed share of errors → confidence, chosen on validation.
        disputed: indices of pictures whose labels are in doubt.

    Raises:
        EvaluationError: there are no labels, shapes do not fit, a label is not in 0…9, or
            a logit is not finite.
    """
    y, z = np.asarray(labels), np.asarray(logits, np.float64)
    if not y.size:
        raise EvaluationError("there are no digits to evaluate")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise EvaluationError(f"labels must be a list of integers, not {y.dtype} {y.shape}")
    if z.shape != (y.size, CLASSES):
        raise EvaluationError(f"{y.size} labels need logits ({y.size}, 10), got {z.shape}")
    if y.min() < 0 or y.max() >= CLASSES:
        raise EvaluationError(f"labels must lie in 0…9, found {y.min()}…{y.max()}")
    if not np.isfinite(z).all():
        raise EvaluationError("logits must be finite, found NaN or infinity")

    refusals = np.zeros(y.size, bool) if refused is None else np.asarray(refused, bool)
    if refusals.shape != y.shape:
        raise EvaluationError(f"{y.size} labels need as many refusals, got {refusals.shape}")
    if disputed and not 0 <= min(disputed) <= max(disputed) < y.size:
        raise EvaluationError(f"disputed labels must lie in 0…{y.size - 1}")

    y = y.astype(np.int64)
    p = softmax(z / temperature)
    answers, confidences = p.argmax(axis=1), p.max(axis=1)
    wrong = answers != y
    confusion = confusion_matrix(y, answers)
    errors = int(wrong.sum())
    return Evaluation(
        n=y.size,
        errors=errors,
        accuracy=wilson(y.size - errors, y.size),
        macro_f1=macro_f1(confusion),
        classes=class_figures(confusion),
        confusion=confusion,
        confusion_shares=confusion_shares(confusion),
        confused_pairs=confused_pairs(confusion),
        calibration=calibration(y, z, temperature=temperature),
        coverage=apply_budgets(
            np.where(refusals, -1, confidences), wrong, thresholds=error_thresholds or {}
        ),
        rejection=_reject(threshold, wrong, rejected=refusals | (confidences < threshold)),
        disputed=_without(disputed, wrong) if disputed else None,
        cases=choose(y, p, disputed=disputed),
    )


def _reject(threshold: float, wrong: Array, *, rejected: Array) -> Rejection:
    accepted, errors = int((~rejected).sum()), int((wrong & ~rejected).sum())
    accuracy = share(accepted - errors, accepted)
    return Rejection(threshold, int(rejected.sum()), accepted, errors, accuracy)


def _without(disputed: frozenset[int], wrong: Array) -> Disputed:
    indices = sorted(disputed)
    errors, others = int(wrong[indices].sum()), np.delete(wrong, indices)
    accuracy = share(int((~others).sum()), others.size)
    return Disputed(tuple(indices), errors, others.size, accuracy)
