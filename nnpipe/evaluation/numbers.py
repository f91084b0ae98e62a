"""The figures of a report on numbers of several digits, from labels, answers and confidences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnpipe.calibration import error_thresholds
from nnpipe.errors import EvaluationError
from nnpipe.evaluation.cases import first
from nnpipe.evaluation.classes import CLASSES, Pair, confused_pairs, confusion_shares
from nnpipe.evaluation.confidence import (
    Coverage,
    Reliability,
    answer_reliability,
    apply_budgets,
)
from nnpipe.evaluation.statistics import Estimate, wilson
from nnpipe.network import Array

BUDGETS = (0.05, 0.01, 0.005)
"""Shares of errors among the numbers read for which a threshold is looked for."""

REFUSED, LENGTH, DIGIT = "refused", "length", "digit"
"""Kinds of errors: no answer; an answer with another number of digits, because of a wrong cut; an
answer of the right length with another digit."""


@dataclass(frozen=True)
class Kind:
    """A kind of errors."""

    name: str  # REFUSED, LENGTH or DIGIT
    n: int
    share: Estimate  # of all numbers


@dataclass(frozen=True)
class Length:
    """The numbers with this many digits."""

    digits: int
    n: int
    errors: int
    accuracy: Estimate


@dataclass(frozen=True)
class AlignedDigits:
    """The digits of all labels, each with the digit of the answer that it is aligned with."""

    n: int  # digits of all labels
    right: int
    accuracy: Estimate
    missed: int  # without a digit of the answer; all digits of a refused number
    extra: int  # digits of the answers without a digit of the label


@dataclass(frozen=True)
class Cases:
    """Indices of numbers, those most worth a look first; at most `cases.MOST` of each kind."""

    errors: tuple[int, ...]  # read wrong; the most confident first
    refused: tuple[int, ...]  # in their order
    hits: tuple[int, ...]  # read right; the least confident first


@dataclass(frozen=True)
class NumbersEvaluation:
    """All figures that labels, answers and confidences give."""

    n: int
    errors: int  # refused ones included
    accuracy: Estimate  # share of numbers whose digits are all right
    kinds: tuple[Kind, ...]
    digits: AlignedDigits
    lengths: tuple[Length, ...]  # by the number of digits in the label
    confusion: Array  # (10, 10): row = digit of the label, column = of the answer
    confusion_shares: tuple[tuple[float | None, ...], ...]  # of each row; None: no such digit
    confused_pairs: tuple[Pair, ...]  # the most frequent first
    reliability: Reliability | None  # of the answers; None: all are refused
    surest_half: Estimate  # share right of the most confident half; refused ones come last
    coverage: Coverage
    cases: Cases


def evaluate_numbers(
    labels: Sequence[str], answers: Sequence[str | None], *, confidences: npt.ArrayLike
) -> NumbersEvaluation:
    """Compare the numbers that were read with their labels.

    Args:
        labels: n texts of digits, such as "007".
        answers: n texts of digits; None: refused, which counts as an error.
        confidences: of the answers, shape (n,), in [0, 1]. Those of refused numbers are ignored.

    Raises:
        EvaluationError: there are no numbers.
    """
    n = len(labels)
    if not n:
        raise EvaluationError("there are no numbers to evaluate")
    answered = np.array([answer is not None for answer in answers])
    wrong = np.array([label != answer for label, answer in zip(labels, answers, strict=True)])
    c = np.where(answered, np.asarray(confidences, np.float64), -1)
    found = [_kind(label, answer) for label, answer in zip(labels, answers, strict=True)]
    counts = Counter(found)
    errors = int(wrong.sum())
    confusion, digits = _compare_digits(labels, answers)
    half = np.argsort(-c, kind="stable")[: (n + 1) // 2]
    thresholds = {}
    if answered.any():
        by_name = error_thresholds(c[answered], ~wrong[answered], budgets=BUDGETS)
        thresholds = {float(budget): threshold for budget, threshold in by_name.items()}
    return NumbersEvaluation(
        n=n,
        errors=errors,
        accuracy=wilson(n - errors, n),
        kinds=tuple(
            Kind(name, counts[name], wilson(counts[name], n)) for name in (REFUSED, LENGTH, DIGIT)
        ),
        digits=digits,
        lengths=_by_length(labels, wrong),
        confusion=confusion,
        confusion_shares=confusion_shares(confusion),
        confused_pairs=confused_pairs(confusion),
        reliability=answer_reliability(c[answered], ~wrong[answered]) if answered.any() else None,
        surest_half=wilson(int((~wrong[half]).sum()), len(half)),
        coverage=apply_budgets(c, wrong, thresholds=thresholds),
        cases=Cases(
            errors=first(wrong & answered, by=-c),
            refused=first(~answered, by=c),
            hits=first(~wrong, by=c),
        ),
    )


def _kind(label: str, answer: str | None) -> str:
    """Return the kind of an error, or "" if the answer is right."""
    if answer is None:
        return REFUSED
    if len(answer) != len(label):
        return LENGTH
    return DIGIT if answer != label else ""


def _by_length(labels: Sequence[str], wrong: Array) -> tuple[Length, ...]:
    lengths = np.array([len(label) for label in labels])
    groups = [(int(length), wrong[lengths == length]) for length in np.unique(lengths)]
    return tuple(
        Length(length, group.size, int(group.sum()), wilson(int((~group).sum()), group.size))
        for length, group in groups
    )


def _compare_digits(
    labels: Sequence[str], answers: Sequence[str | None]
) -> tuple[Array, AlignedDigits]:
    """Return the confusion matrix of the aligned digits, and what was counted beside it."""
    pairs = Counter(
        pair
        for label, answer in zip(labels, answers, strict=True)
        for pair in align(label, answer or "")
    )
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    missed = extra = 0
    for (true, read), count in pairs.items():
        if not read:
            missed += count
        elif not true:
            extra += count
        else:
            confusion[int(true), int(read)] = count
    n, right = sum(map(len, labels)), int(np.trace(confusion))
    return confusion, AlignedDigits(n, right, wilson(right, n), missed, extra)


Alignment = tuple[int, int, tuple[tuple[str, str], ...]]
"""Number of edits, minus the number of equal digits, and the pairs."""


def align(label: str, answer: str) -> tuple[tuple[str, str], ...]:
    """Pair the digits of a label with those of an answer; "" stands for a digit that is not there.

    The alignment has the fewest edits (Levenshtein 1966; Wagner & Fischer 1974), and among those
    the most equal digits.
    """

    def then(before: Alignment, pair: tuple[str, str]) -> Alignment:
        edits, minus_equal, pairs = before
        equal = pair[0] == pair[1]
        return edits + (not equal), minus_equal - equal, (*pairs, pair)

    row: list[Alignment] = [(0, 0, ())]
    for read in answer:
        row.append(then(row[-1], ("", read)))
    for true in label:
        above, row = row, [then(row[0], (true, ""))]
        for column, read in enumerate(answer):
            row.append(
                min(
                    then(above[column], (true, read)),
                    then(above[column + 1], (true, "")),
                    then(row[column], ("", read)),
                )
            )
    return row[-1][2]
