"""The figures of a report on numbers of several digits: what was measured, and ``metrics.json``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnpipe.classifier import Classifier
from nnpipe.evaluation.numbers import (
    DIGIT,
    LENGTH,
    REFUSED,
    NumbersEvaluation,
    align,
    evaluate_numbers,
)
from nnpipe.ground_truth import Numbers
from nnpipe.report.metrics import FORMAT_VERSION, PAIRS, about_weights, as_read, listing, reproduce


@dataclass(frozen=True)
class MeasuredNumbers:
    """All that a report on numbers shows."""

    about: dict[str, Any]  # the weights, what they were trained on, what they were measured on
    numbers: Numbers
    evaluation: NumbersEvaluation
    reproduce: list[str]  # commands


def measure_numbers(
    path: Path, numbers: Numbers, *, classifier: Classifier, name: str, command: str
) -> MeasuredNumbers:
    """Compare numbers that were read with their labels.

    Args:
        path: the weights file.
        numbers: what was read.
        classifier: the weights that read them.
        name: the name of the run, or "champion".
        command: the command that reproduces the report.
    """
    readings = numbers.readings
    return MeasuredNumbers(
        about=about_weights(path, classifier, name=name)
        | {"measured_on": numbers.name, "measured_on_checksum": None, "digits": numbers.digits},
        numbers=numbers,
        evaluation=evaluate_numbers(
            numbers.labels,
            [number.label for number in readings],
            confidences=[number.confidence or 0.0 for number in readings],
        ),
        reproduce=reproduce(command, classifier.weights.metadata, path=path),
    )


def number_contents(measured: MeasuredNumbers) -> dict[str, Any]:
    """Return all figures of a report as lists, dictionaries, numbers, text and None."""
    evaluation = measured.evaluation
    cases = asdict(evaluation.cases)
    return as_read(
        {
            "format": FORMAT_VERSION,
            "about": measured.about,
            "summary": {
                "headline": f"{evaluation.accuracy.value:.2%} of {evaluation.n:,} numbers "
                "read right",
                "mistakes": _mistakes(evaluation),
            },
            **asdict(evaluation),
            "confused_pairs": [asdict(pair) for pair in evaluation.confused_pairs[:PAIRS]],
            "pictures": {i: _picture(measured, i) for i in sorted(set().union(*cases.values()))},
            "files": {"unreadable": listing([asdict(f) for f in measured.numbers.unreadable])},
            "reproduce": measured.reproduce,
        }
    )


def _mistakes(evaluation: NumbersEvaluation) -> str:
    """Describe the errors in words."""
    if not evaluation.errors:
        return "No number is misread."
    n = {kind.name: f"{kind.n:,}" for kind in evaluation.kinds}
    return (
        f"Of {evaluation.n:,} numbers, {n[REFUSED]} are refused, {n[LENGTH]} are read with too "
        f"many or too few digits, and {n[DIGIT]} with a wrong digit."
    )


def _picture(measured: MeasuredNumbers, i: int) -> dict[str, Any]:
    label, number = measured.numbers.labels[i], measured.numbers.readings[i]
    pairs = [pair for pair in align(label, number.label or "") if pair[1]]
    return {
        "name": measured.numbers.names[i],
        "label": label,
        "answer": number.label,
        "confidence": number.confidence,
        "second": number.second,
        "second_confidence": number.second_confidence,
        "reason": number.reason,
        "width": number.width,
        "height": number.height,
        "digits": [
            digit._asdict() | {"matches": true == read}
            for digit, (true, read) in zip(number.digits, pairs, strict=True)
        ],
    }


def number_predictions(measured: MeasuredNumbers) -> pd.DataFrame:
    """Return a table with a row for each picture; unreadable files come last."""
    numbers = measured.numbers
    rows = [
        {
            "name": name,
            "label": label,
            "answer": number.label,
            "confidence": number.confidence,
            "second": number.second,
            "second_confidence": number.second_confidence,
            "status": number.status,
            "reason": number.reason,
        }
        for name, label, number in zip(numbers.names, numbers.labels, numbers.readings, strict=True)
    ]
    unreadable = [asdict(file) | {"status": "error"} for file in numbers.unreadable]
    table = pd.DataFrame([*rows, *unreadable])
    shares = ["confidence", "second_confidence"]
    kinds = {name: "float64" if name in shares else "string" for name in table.columns}
    return table.astype(kinds)
