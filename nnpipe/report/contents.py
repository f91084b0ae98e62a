"""What a report says: every number of it, as `metrics.json` holds it."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from nnpipe.evaluation import CLASSES, Evaluation
from nnpipe.evaluation.cases import MOST
from nnpipe.labelled import Labelled
from nnpipe.network import Array
from nnpipe.report.measure import Measured
from nnpipe.champions.rules import SIGNIFICANCE

FORMAT_VERSION = 1

EXAMPLES = 6
PAIRS = 8
LISTED = 200
"""So many files or duplicates are listed; all are counted."""


def contents(measured: Measured) -> dict[str, Any]:
    """Put everything together; lists, dictionaries, numbers, text and None alone."""
    e = measured.evaluation
    labels, p = measured.labelled.digits.labels, measured.probabilities
    answers = p.argmax(axis=1)
    cases = {kind: list(indices) for kind, indices in asdict(e.cases).items()}
    comparison = None
    if measured.champion:
        right, before = answers == labels, measured.champion.answers == labels
        cases["gained"] = _surest(right & ~before, p)[:MOST]
        cases["lost"] = _surest(before & ~right, p)[:MOST]
        comparison = {"champion": measured.champion.about} | asdict(measured.champion.comparison)
    pairs = [
        asdict(pair)
        | {"examples": _surest((labels == pair.label) & (answers == pair.answer), p)[:EXAMPLES]}
        for pair in e.pairs[:PAIRS]
    ]
    if e.disputed:
        cases["disputed"] = list(e.disputed.indices)
    shown = sorted(
        {i for indices in cases.values() for i in indices}
        | {i for pair in pairs for i in pair["examples"]}
        | {duplicate.index for duplicate in measured.duplicates[:MOST]}
    )
    found = {
        "format": FORMAT_VERSION,
        "about": measured.about,
        "summary": {
            "headline": headline(e),
            "mistakes": mistakes(e),
            "against_champion": against(measured),
        },
        "n": e.n,
        "errors": e.errors,
        "accuracy": asdict(e.accuracy),
        "macro_f1": asdict(e.macro_f1),
        "classes": [asdict(figures) for figures in e.classes],
        "confusion": e.confusion.tolist(),
        "confusion_shares": [
            [n / sum(row) if sum(row) else None for n in row] for row in e.confusion.tolist()
        ],
        "confused_pairs": pairs,
        "calibration": asdict(e.calibration),
        "coverage": asdict(e.coverage),
        "rejection": asdict(e.rejection),
        "disputed": asdict(e.disputed) if e.disputed else None,
        "cases": cases,
        "pictures": {str(i): _picture(measured, i) for i in shown},
        "robustness": [asdict(series) for series in measured.robustness],
        "comparison": comparison,
        "promotion": asdict(measured.decision) if measured.decision else None,
        "data": _data(measured),
        "files": _files(measured.labelled),
        "reproduce": list(measured.reproduce),
    }
    # As a file would give it back: a tuple is a list, and a key is text.
    return json.loads(json.dumps(found, allow_nan=False))  # type: ignore[no-any-return]


def headline(e: Evaluation) -> str:
    """The one figure, in words."""
    return f"{e.accuracy.value:.2%} of {e.n:,} digits read right"


def mistakes(e: Evaluation) -> str:
    """What goes wrong most, in words."""
    if not e.pairs:
        return "Not one is misread."
    times = [f"a {pair.label} is read as {pair.answer} ({pair.count:,} ×)" for pair in e.pairs[:3]]
    found = f"Most often {_listed(times)}"
    seen = [(c.recall.value, c.label) for c in e.classes if c.recall]
    worst, best = min(seen), max(seen)
    if worst[0] == best[0]:
        return f"{found}."
    return (
        f"{found}. The digit it misses most is {worst[1]} ({worst[0]:.2%} found), "
        f"the one it misses least {best[1]} ({best[0]:.2%})."
    )


def against(measured: Measured) -> str:
    """Compare with the champion, in words."""
    if measured.champion is None:
        own = "These are the champion's own weights."
        return own if measured.is_champion else "There is no champion to compare with."
    about, found = measured.champion.about, measured.champion.comparison
    other = "" if about["same_training_data"] else ", which was trained on other data"
    sizes = (
        f"Of the digits that the champion misreads ({about['accuracy']:.2%}{other}) "
        f"{found.gained:,} are read right, and {found.lost:,} misread that it reads right"
    )
    if found.gained == found.lost:
        return f"{sizes}: as good as it."
    direction = "better" if found.gained > found.lost else "worse"
    if found.p_value >= SIGNIFICANCE:
        direction = f"not clearly {direction}"
    return (
        f"{sizes}: {direction}. If both were equally good, chance would give a difference at least "
        f"as large with p = {found.p_value:.2g}."
    )


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)


def _surest(which: Array, p: Array) -> list[int]:
    """The indices of some pictures, a mask of shape (n,), the most confident first."""
    indices = np.flatnonzero(which)
    return indices[np.argsort(-p[indices].max(axis=1), kind="stable")].tolist()  # type: ignore[no-any-return]


def _picture(measured: Measured, i: int) -> dict[str, Any]:
    p = measured.probabilities[i]
    shown = {
        "name": measured.labelled.names[i],
        "label": int(measured.labelled.digits.labels[i]),
        "answer": int(p.argmax()),
        "confidence": round(float(p.max()), 6),
        "probabilities": [round(float(share), 6) for share in p],
        "disputed": i in measured.labelled.disputed,
        "refusal": measured.labelled.refusals[i],
    }
    if measured.champion:
        shown["champion_answer"] = int(measured.champion.answers[i])
    return shown


def _data(measured: Measured) -> dict[str, Any]:
    def counts(labels: Array) -> list[int]:
        return np.bincount(labels, minlength=CLASSES).tolist()  # type: ignore[no-any-return]

    if measured.data:
        parts = {name: getattr(measured.data, name) for name in ("training", "validation", "test")}
    else:
        parts = {"folder": measured.labelled.digits}
    names = measured.labelled.names
    return {
        "counts": {name: counts(digits.labels) for name, digits in parts.items()},
        "totals": {name: len(digits.labels) for name, digits in parts.items()},
        "duplicates": {
            "of": "training" if measured.data else "folder",
            "n": len(measured.duplicates),
            "labelled_otherwise": sum(d.label != d.earlier_label for d in measured.duplicates),
            "first": [
                asdict(d)
                | {"name": names[d.index]}
                | {"earlier_name": f"training[{d.earlier}]" if measured.data else names[d.earlier]}
                for d in measured.duplicates[:LISTED]
            ],
        },
    }


def _files(labelled: Labelled) -> dict[str, Any] | None:
    if labelled.files is None:
        return None
    refused = [
        {"name": name, "reason": reason}
        for name, reason in zip(labelled.names, labelled.refusals, strict=True)
        if reason
    ]
    return {
        "unreadable": {
            "n": len(labelled.unreadable),
            "first": [asdict(file) for file in labelled.unreadable[:LISTED]],
        },
        "refused": {"n": len(refused), "first": refused[:LISTED]},
        "unlabelled": {
            "n": len(labelled.unlabelled),
            "first": list(labelled.unlabelled[:LISTED]),
        },
    }
