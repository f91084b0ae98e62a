"""Everything that a report is made of, measured."""

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpipe import __version__
from nnpipe.champions import Decision
from nnpipe.classifier import Classifier
from nnpipe.datasets import Dataset
from nnpipe.evaluation import Evaluation, comparison, duplicates, evaluate, robustness
from nnpipe.evaluation.comparison import Comparison
from nnpipe.evaluation.duplicates import Duplicate
from nnpipe.evaluation.robustness import Series
from nnpipe.files import sha256
from nnpipe.labelled import Labelled
from nnpipe.network import Array, softmax
from nnpipe.places import encode_path
from nnpipe.preprocess import as_inputs
from nnpipe.weights import Metadata


class Champion(NamedTuple):
    """The champion on the same pictures."""

    about: dict[str, Any]
    answers: Array  # (n,), 0…9
    comparison: Comparison


@dataclass(frozen=True)
class Measured:
    """All that a report is made of."""

    about: dict[str, Any]  # the weights, what they were trained on, what they were measured on
    labelled: Labelled
    probabilities: Array  # (n, 10), calibrated
    evaluation: Evaluation
    robustness: tuple[Series, ...]
    champion: Champion | None  # None: there is none, or these are its own weights
    is_champion: bool
    decision: Decision | None  # of the rules of promotion; None: they were not asked
    duplicates: tuple[Duplicate, ...]  # of training pictures; in a folder, of earlier ones
    data: Dataset | None  # None for a folder
    reproduce: tuple[str, ...]  # commands


def measure(
    path: Path,
    labelled: Labelled,
    *,
    champion: Path,
    data: Dataset | None,
    name: str,
    command: str,
    decision: Decision | None = None,
) -> Measured:
    """Measure weights on pictures, beside the champion.

    Args:
        path: the weights file.
        labelled: the pictures, with their labels.
        champion: the champion's weights file, which may be missing.
        data: the data set whose test part they are; None for a folder.
        name: of the weights: that of their run, or "champion".
        command: what gave it.
        decision: of the rules of promotion; None if they were not asked.

    Raises:
        WeightsError: the weights, or the champion's, are missing or damaged.
    """
    classifier = Classifier.load(path)
    metadata = classifier.weights.metadata
    images, labels = labelled.digits
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
    digest = sha256(path.read_bytes())
    champion_digest = sha256(champion.read_bytes()) if os.path.lexists(champion) else None
    rival = None
    if champion_digest not in (None, digest):
        rival = _champion(champion, metadata, labelled=labelled, logits=logits)
    if data:
        found = duplicates.among(images, labels, data.training.images, data.training.labels)
    else:
        found = duplicates.repeated(images, labels)
    about = {
        "name": encode_path(name),
        "nnpipe": __version__,
        "weights": encode_path(path.name),
        "weights_sha256": digest,
        "parameters": sum(
            layer.W.size + layer.b.size for layer in classifier.weights.network.layers
        ),
        "layer_sizes": list(metadata.layer_sizes),
        "measured_on": labelled.name,
        "dataset": data.name if data else None,
        "measured_on_checksum": data.checksum if data else None,
        "trained_on": metadata.dataset,
        "engine": metadata.engine,
        "recipe": metadata.recipe,
        "seed": metadata.seed,
        "validation_accuracy": metadata.validation_accuracy,
        "trained": metadata.created,
        "git_commit": metadata.git_commit,
        "temperature": metadata.temperature,
        "rejection_threshold": classifier.threshold,
        "seconds_to_read": round(seconds, 3),
    }
    return Measured(
        about=about,
        labelled=labelled,
        probabilities=softmax(logits / metadata.temperature),
        evaluation=evaluation,
        robustness=robustness.measure(
            classifier.weights.network, as_inputs(images), labels.astype(np.int64)
        ),
        champion=rival,
        is_champion=champion_digest == digest,
        decision=decision,
        duplicates=found,
        data=data,
        reproduce=("# this report", command, "# the weights, anew", *_training(metadata)),
    )


def _champion(path: Path, metadata: Metadata, *, labelled: Labelled, logits: Array) -> Champion:
    """Read the same pictures with the champion."""
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
        comparison=comparison.compare(logits.argmax(axis=1) == labels, answers == labels),
    )


def _training(metadata: Metadata) -> list[str]:
    """What to type for the same weights."""
    train = ["nnpipe", "train", "--run", "again", "--dataset", metadata.dataset]
    if metadata.engine == "torch":
        train += ["--recipe", metadata.recipe]
    else:
        train += ["--engine", metadata.engine]
    train += ["--seed", str(metadata.seed)]
    given = metadata.parameters or {}
    for option in ("epochs", "batch_size", "lr"):
        if option in given:
            train += [f"--{option.replace('_', '-')}", str(given[option])]
    return [
        shlex.join(["nnpipe", "download", "--dataset", metadata.dataset]),
        shlex.join(train),
    ]
