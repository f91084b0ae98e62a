"""The figures of a report: all measurements, and from these the content of ``metrics.json``."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpipe import __version__, records
from nnpipe.champions import Decision
from nnpipe.classifier import Classifier
from nnpipe.evaluation import CLASSES, Evaluation, evaluate, robustness
from nnpipe.evaluation.cases import MOST, Duplicate, find_duplicates, first
from nnpipe.evaluation.robustness import Series
from nnpipe.evaluation.statistics import Comparison, compare
from nnpipe.files import sha256
from nnpipe.ground_truth import Labelled
from nnpipe.network import Array, softmax
from nnpipe.own.measuring import OwnReport
from nnpipe.places import encode_path
from nnpipe.preprocess import as_inputs
from nnpipe.runs import OWN, OWN_REPORT
from nnpipe.settings import IDX, command_line
from nnpipe.weights import Metadata

FORMAT_VERSION = 1

SIGNIFICANCE = 0.05
"""Significance level of the McNemar test: above it, a difference from the champion is not clear."""

EXAMPLES = 6
"""Pictures of each confused pair."""

PAIRS = 8
"""Confused pairs that are listed."""

LISTED = 200
"""Files or duplicates that are listed; all are counted."""


class Champion(NamedTuple):
    """The champion's answers to the same pictures."""

    about: dict[str, Any]
    answers: Array  # (n,), 0…9
    comparison: Comparison


@dataclass(frozen=True)
class Measured:
    """All that a report shows."""

    about: dict[str, Any]  # the weights, what they were trained on, what they were measured on
    labelled: Labelled
    probabilities: Array  # (n, 10), calibrated
    evaluation: Evaluation
    robustness: tuple[Series, ...]
    champion: Champion | None  # None: missing, or these are its weights
    is_champion: bool
    decision: Decision | None  # of the rules of promotion; None: not asked for
    duplicates: tuple[Duplicate, ...]  # of training pictures; in a folder, of earlier ones
    reproduce: list[str]  # commands
    own: OwnReport | None = None  # what learning from own pictures brought


def measure(
    path: Path,
    labelled: Labelled,
    *,
    champion: Path,
    name: str,
    command: str,
    decision: Decision | None = None,
) -> Measured:
    """Measure weights on labelled pictures, and compare them with the champion.

    Args:
        path: the weights file.
        labelled: the pictures.
        champion: the champion's weights file, which may be missing.
        name: the name of the run, or "champion".
        command: the command that reproduces the report.
        decision: of the rules of promotion; None: not asked for.

    Raises:
        WeightsError: the weights, or the champion's, are missing or damaged.
    """
    classifier = Classifier.load(path)
    metadata = classifier.weights.metadata
    (images, labels), data = labelled.digits, labelled.data
    start = time.perf_counter()
    logits = classifier.logits(images)
    seconds = time.perf_counter() - start
    evaluation = evaluate(
        labels,
        logits,
        temperature=metadata.temperature,
        threshold=classifier.threshold,
        refused=[bool(refusal) for refusal in labelled.refusals],
        error_thresholds={float(b): t for b, t in (metadata.error_thresholds or {}).items()},
        disputed=labelled.disputed,
    )
    about = about_weights(path, classifier, name=name) | {
        "measured_on": labelled.name,
        "dataset": data and data.name,
        "measured_on_checksum": data and data.checksum,
        "rejection_threshold": classifier.threshold,
        "seconds_to_read": round(seconds, 3),
    }
    champion_digest = sha256(champion.read_bytes()) if os.path.lexists(champion) else None
    is_champion = champion_digest == about["weights_sha256"]
    rival = None
    if champion_digest and not is_champion:
        rival = _champion(champion, metadata, labelled=labelled, logits=logits)
    network = classifier.weights.network
    return Measured(
        about=about,
        labelled=labelled,
        probabilities=softmax(logits / metadata.temperature),
        evaluation=evaluation,
        robustness=robustness.measure(network, as_inputs(images), labels=labels.astype(np.int64)),
        champion=rival,
        is_champion=is_champion,
        decision=decision,
        duplicates=find_duplicates(images, labels, earlier=data.training if data else None),
        reproduce=reproduce(command, metadata, path=path),
        own=_own_report(path, metadata),
    )


def _own_report(path: Path, metadata: Metadata) -> OwnReport | None:
    """Read what learning from own pictures brought, if that was measured."""
    if metadata.own is None:
        return None
    with suppress(OSError, ValueError):
        return records.load(OwnReport, path.parent / OWN_REPORT)  # type: ignore[no-any-return]
    return None


def about_weights(path: Path, classifier: Classifier, *, name: str) -> dict[str, Any]:
    """Return what a report says of its weights: the file, the network, and how it was trained."""
    metadata, network = classifier.weights.metadata, classifier.weights.network
    return {
        "name": encode_path(name),
        "nnpipe": __version__,
        "weights": encode_path(path.name),
        "weights_sha256": sha256(path.read_bytes()),
        "parameters": sum(array.size for layer in network.layers for array in layer),
        "layer_sizes": metadata.layer_sizes,
        "trained_on": metadata.dataset,
        "own_pictures": metadata.own.pictures if metadata.own else 0,
        "engine": metadata.engine,
        "recipe": metadata.recipe,
        "seed": metadata.seed,
        "validation_accuracy": metadata.validation_accuracy,
        "trained": metadata.created,
        "git_commit": metadata.git_commit,
        "temperature": metadata.temperature,
    }


def _champion(path: Path, metadata: Metadata, *, labelled: Labelled, logits: Array) -> Champion:
    classifier = Classifier.load(path)
    labels = labelled.digits.labels
    answers = classifier.logits(labelled.digits.images).argmax(axis=1)
    trained = classifier.weights.metadata
    return Champion(
        about={
            "weights_sha256": sha256(path.read_bytes()),
            "recipe": trained.recipe,
            "seed": trained.seed,
            "trained_on": trained.dataset,
            "same_training_data": trained.dataset_checksum == metadata.dataset_checksum,
            "accuracy": float((answers == labels).mean()),
        },
        answers=answers,
        comparison=compare(logits.argmax(axis=1) == labels, answers == labels),
    )


def reproduce(command: str, metadata: Metadata, *, path: Path) -> list[str]:
    """Return the commands that make a report, and train its weights, a file."""
    by_torch = metadata.engine == "torch"
    engine = {"recipe": metadata.recipe} if by_torch else {"engine": metadata.engine}
    parameters = metadata.parameters or {}
    changes = {name: parameters.get(name) for name in ("epochs", "batch_size", "lr")}
    name, data = metadata.dataset, [metadata.dataset]
    commands = [] if name.startswith(IDX) else [command_line("download", {"dataset": name})]
    if metadata.own:
        data.append(encode_path(str(path.parent / OWN)))
    if metadata.origin:  # FILE stands for the network that it was adapted from
        commands.append(f"# FILE: the network with the SHA-256 {metadata.origin.network[:12]}…")
        changes = {"from": "FILE"} | changes
        engine = {"engine": metadata.engine}
    options = {"run": "again", "data": data} | engine | {"seed": metadata.seed} | changes
    commands.append(command_line("train", options))
    return ["# this report", command, "# the weights", *commands]


def contents(measured: Measured) -> dict[str, Any]:
    """Return all figures of a report as lists, dictionaries, numbers, text and None."""
    evaluation, own = measured.evaluation, measured.own
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
        "own": asdict(own) | {"outlook": own.outlook} if own else None,
        "data": _data(measured),
        "files": _files(measured.labelled),
        "reproduce": measured.reproduce,
    }
    return as_read(figures)


def as_read(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with the types that they have when read from a file: lists, keys of text."""
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
    text = f"Most frequent mistakes: {frequent}."
    if worst[0] != best[0]:
        text += f" The digit with the lowest recall is {worst[1]} ({worst[0]:.2%}), "
        text += f"the one with the highest {best[1]} ({best[0]:.2%})."
    return text


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
    data, names = measured.labelled.data, measured.labelled.names
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
        | listing(duplicates),
    }


def _files(labelled: Labelled) -> dict[str, Any] | None:
    if labelled.files is None:
        return None
    refusals = zip(labelled.names, labelled.refusals, strict=True)
    return {
        "unreadable": listing([asdict(file) for file in labelled.unreadable]),
        "refused": listing([{"name": name, "reason": why} for name, why in refusals if why]),
        "unlabelled": listing(labelled.unlabelled),
    }


def listing(items: Sequence[Any]) -> dict[str, Any]:
    """Return the number of items, and the first of them."""
    return {"n": len(items), "first": items[:LISTED]}
