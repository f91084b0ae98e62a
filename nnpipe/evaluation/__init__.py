"""How good are the answers: every figure of the report, from labels and logits.

    classes      confusion, precision, recall, F1      intervals    Wilson, bootstrap
    reliability  log loss, Brier, calibration          coverage     how much at which error
    robustness   changed pictures                      comparison   against another network
    cases        pictures to look at                   duplicates   pictures that are there twice

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
    Counts,
    Pair,
    class_figures,
    confused_pairs,
    confusion_matrix,
    macro_f1,
)
from nnpipe.evaluation.coverage import Coverage, keep_budgets
from nnpipe.evaluation.intervals import Estimate, share, wilson
from nnpipe.evaluation.reliability import Calibration, calibration
from nnpipe.network import softmax

__all__ = [
    "CLASSES",
    "Calibration",
    "Cases",
    "ClassFigures",
    "Coverage",
    "Estimate",
    "Evaluation",
    "Pair",
    "Rejection",
    "evaluate",
]


@dataclass(frozen=True)
class Rejection:
    """What `nnpipe predict` would reject, for its threshold or for what preprocessing found."""

    threshold: float  # of confidence
    rejected: int
    accepted: int
    errors: int  # among the accepted
    accuracy: Estimate | None  # of the accepted


@dataclass(frozen=True)
class Disputed:
    """Labels that people doubt, and what is left without them."""

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
    confusion: Counts  # (10, 10): row = label, column = answer
    classes: tuple[ClassFigures, ...]  # ten, by label
    pairs: tuple[Pair, ...]  # what was taken for what, the most frequent first
    calibration: Calibration
    coverage: Coverage
    rejection: Rejection
    disputed: Disputed | None  # None where nothing is known of the labels
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

    Every picture gets an answer, the largest of its probabilities, be it rejected or not; what is
    refused in any case is only never read at an error budget.

    Args:
        labels: shape (n,), integers in 0…9.
        logits: shape (n, 10), finite.
        temperature: divides the logits; fitted on validation, above 0.
        threshold: below this confidence, in [0, 1], an answer is rejected.
        refused: shape (n,), what is rejected in any case; by default nothing.
        error_thresholds: share of errors that is allowed → confidence, chosen on validation.
        disputed: indices of pictures whose labels are in doubt.

    Raises:
        EvaluationError: there is nothing to compare, shapes do not fit, a label is not in 0…9, or
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

    rejected = np.zeros(y.size, bool) if refused is None else np.array(refused, bool)
    if rejected.shape != y.shape:
        raise EvaluationError(f"{y.size} labels need as many refusals, got {rejected.shape}")
    if disputed and not 0 <= min(disputed) <= max(disputed) < y.size:
        raise EvaluationError(f"disputed labels must lie in 0…{y.size - 1}")

    y = y.astype(np.int64)
    p = softmax(z / temperature)
    answers, confidences = p.argmax(axis=1), p.max(axis=1)
    wrong = answers != y
    confusion = confusion_matrix(y, answers)
    errors = int(wrong.sum())
    takeable = np.where(rejected, -1, confidences)
    rejected |= confidences < threshold
    return Evaluation(
        n=y.size,
        errors=errors,
        accuracy=wilson(y.size - errors, y.size),
        macro_f1=macro_f1(confusion),
        confusion=confusion,
        classes=class_figures(confusion),
        pairs=confused_pairs(confusion),
        calibration=calibration(y, z, temperature),
        coverage=keep_budgets(takeable, wrong, error_thresholds or {}),
        rejection=_rejection(threshold, rejected, wrong),
        disputed=_disputed(disputed, wrong) if disputed else None,
        cases=choose(y, p, disputed),
    )


def _rejection(
    threshold: float, rejected: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_]
) -> Rejection:
    accepted, errors = int((~rejected).sum()), int((wrong & ~rejected).sum())
    return Rejection(
        threshold, int(rejected.sum()), accepted, errors, share(accepted - errors, accepted)
    )


def _disputed(disputed: frozenset[int], wrong: npt.NDArray[np.bool_]) -> Disputed:
    indices = np.array(sorted(disputed))
    errors, n = int(wrong[indices].sum()), wrong.size - len(indices)
    right = n - (int(wrong.sum()) - errors)
    return Disputed(tuple(indices.tolist()), errors, n, share(right, n))
