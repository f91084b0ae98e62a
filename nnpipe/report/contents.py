"""The content of ``metrics.json``: every number of a report."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nnpipe.champions.rules import SIGNIFICANCE
from nnpipe.evaluation import CLASSES, Evaluation
from nnpipe.evaluation.cases import MOST, first
from nnpipe.labelled import Labelled
from nnpipe.report.measure import Measured

FORMAT_VERSION = 1

EXAMPLES = 6
"""Pictures of each confused pair."""

PAIRS = 8
"""Confused pairs that are listed."""

LISTED = 200
"""Files or duplicates that are listed; all are counted."""


def contents(measured: Measured) -> dict[str, Any]:
    """Return all figures of a report as lists, dictionaries, numbers, text and None."""
    evaluation = measured.evaluation
    labels, p = measured.labelled.digits.labels, measured.probabilities
    answers, confidences = p.argmax(axis=1), p.max(axis=1)
    cases = asdict(evaluation.cases)
    comparison = None
    if measured.champion:
        right, before = answers == labels, measured.champion.answers == labels
        cases["gained"] = first(right & ~before, by=-confidences)
        cases["lost"] = first(before & ~right, by=-confidences)
        comparison = {"champion": measured.champion.about} | asdict(measured.champion.comparison)
    if evaluation.disputed:
        cases["disputed"] = evaluation.disputed.indices
    pairs = []
    for pair in evaluation.confused_pairs[:PAIRS]:
        mask = (labels == pair.label) & (answers == pair.answer)
        pairs.append(asdict(pair) | {"examples": first(mask, by=-confidences, most=EXAMPLES)})
    pictures = {duplicate.index for duplicate in measured.duplicates[:MOST]}
    pictures.update(*cases.values(), *(pair["examples"] for pair in pairs))
    figures = {
        "format": FORMAT_VERSION,
        "about": measured.about,
        "summary": {
            "headline": f"{evaluation.accuracy.value:.2%} of {evaluation.n:,} digits read right",
            "mistakes": mistakes(evaluation),
            "against_champion": against(measured),
        },
        **asdict(evaluation),
        "confused_pairs": pairs,
        "cases": cases,
        "pictures": {i: _picture(measured, i) for i in sorted(pictures)},
        "robustness": [asdict(series) for series in measured.robustness],
        "comparison": comparison,
        "promotion": asdict(measured.decision) if measured.decision else None,
        "data": _data(measured),
        "files": _files(measured.labelled),
        "reproduce": measured.reproduce,
    }
    # The same types as when the file is read: lists for tuples and arrays, keys of text.
    text = json.dumps(figures, allow_nan=False, default=np.ndarray.tolist)
    return json.loads(text)  # type: ignore[no-any-return]


def mistakes(evaluation: Evaluation) -> str:
    """Describe the most frequent mistakes in words."""
    if not evaluation.confused_pairs:
        return "No digit is misread."
    frequent = ", ".join(
        f"a {pair.label} read as {pair.answer} ({pair.count:,} ×)"
        for pair in evaluation.confused_pairs[:3]
    )
    recalls = [(c.recall.value, c.label) for c in evaluation.classes if c.recall]
    worst, best = min(recalls), max(recalls)
    extremes = ""
    if worst[0] != best[0]:
        extremes = (
            f" The digit with the lowest recall is {worst[1]} ({worst[0]:.2%}), "
            f"the one with the highest {best[1]} ({best[0]:.2%})."
        )
    return f"Most frequent mistakes: {frequent}.{extremes}"


def against(measured: Measured) -> str:
    """Compare with the champion, in words."""
    if measured.is_champion:
        return "These are the champion's own weights."
    if measured.champion is None:
        return "There is no champion to compare with."
    about, comparison = measured.champion.about, measured.champion.comparison
    other = "" if about["same_training_data"] else ", which was trained on other data,"
    counts = (
        f"The champion{other} reads {about['accuracy']:.2%} right. {comparison.gained:,} of its "
        f"errors are read right here, and {comparison.lost:,} of its hits are misread"
    )
    if comparison.gained == comparison.lost:
        return f"{counts}: equally good."
    clearly = "" if comparison.p_value < SIGNIFICANCE else "not clearly "
    direction = "better" if comparison.gained > comparison.lost else "worse"
    return (
        f"{counts}: {clearly}{direction}. If both were equally good, a difference at least as "
        f"large would occur by chance with p = {comparison.p_value:.2g}."
    )


def _picture(measured: Measured, i: int) -> dict[str, Any]:
    p = measured.probabilities[i]
    picture = {
        "name": measured.labelled.names[i],
        "label": int(measured.labelled.digits.labels[i]),
        "answer": int(p.argmax()),
        "confidence": round(float(p.max()), 6),
        "probabilities": [round(float(share), 6) for share in p],
        "disputed": i in measured.labelled.disputed,
        "refusal": measured.labelled.refusals[i],
    }
    if measured.champion:
        picture["champion_answer"] = int(measured.champion.answers[i])
    return picture


def _data(measured: Measured) -> dict[str, Any]:
    data, names = measured.data, measured.labelled.names
    parts = {"folder": measured.labelled.digits}
    if data:
        parts = {"training": data.training, "validation": data.validation, "test": data.test}
    duplicates = [
        asdict(d)
        | {"name": names[d.index]}
        | {"earlier_name": f"training[{d.earlier}]" if data else names[d.earlier]}
        for d in measured.duplicates
    ]
    return {
        "counts": {
            name: np.bincount(labels, minlength=CLASSES) for name, (_, labels) in parts.items()
        },
        "totals": {name: len(labels) for name, (_, labels) in parts.items()},
        "duplicates": {
            "of": "training" if data else "folder",
            "labelled_otherwise": sum(d.label != d.earlier_label for d in measured.duplicates),
        }
        | _listing(duplicates),
    }


def _files(labelled: Labelled) -> dict[str, Any] | None:
    if labelled.files is None:
        return None
    refusals = zip(labelled.names, labelled.refusals, strict=True)
    return {
        "unreadable": _listing([asdict(file) for file in labelled.unreadable]),
        "refused": _listing([{"name": name, "reason": why} for name, why in refusals if why]),
        "unlabelled": _listing(labelled.unlabelled),
    }


def _listing(items: Sequence[Any]) -> dict[str, Any]:
    return {"n": len(items), "first": items[:LISTED]}
