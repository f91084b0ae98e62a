"""All measurements of a report."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpipe import __version__
from nnpipe.champions import Decision
from nnpipe.classifier import Classifier
from nnpipe.datasets import Dataset
from nnpipe.evaluation import Evaluation, evaluate, robustness
from nnpipe.evaluation.cases import Duplicate, find_duplicates
from nnpipe.evaluation.robustness import Series
from nnpipe.evaluation.statistics import Comparison, compare
from nnpipe.files import sha256
from nnpipe.labelled import Labelled
from nnpipe.network import Array, softmax
from nnpipe.places import encode_path
from nnpipe.preprocess import as_inputs
from nnpipe.settings import command_line
from nnpipe.weights import Metadata


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
    data: Dataset | None  # None for a folder
    reproduce: list[str]  # commands


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
    """Measure weights on labelled pictures, and compare them with the champion.

    Args:
        path: the weights file.
        labelled: the pictures.
        champion: the champion's weights file, which may be missing.
        data: the data set whose test pictures they are; None for a folder.
        name: the name of the run, or "champion".
        command: the command that reproduces the report.
        decision: of the rules of promotion; None: not asked for.

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
    network = classifier.weights.network
    about = {
        "name": encode_path(name),
        "nnpipe": __version__,
        "weights": encode_path(path.name),
        "weights_sha256": digest,
        "parameters": sum(array.size for layer in network.layers for array in layer),
        "layer_sizes": metadata.layer_sizes,
        "measured_on": labelled.name,
        "dataset": data and data.name,
        "measured_on_checksum": data and data.checksum,
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
        robustness=robustness.measure(network, as_inputs(images), labels=labels.astype(np.int64)),
        champion=rival,
        is_champion=champion_digest == digest,
        decision=decision,
        duplicates=find_duplicates(images, labels, earlier=data.training if data else None),
        data=data,
        reproduce=["# this report", command, "# the weights", *_training(metadata)],
    )


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


def _training(metadata: Metadata) -> list[str]:
    """Return the commands that train the same weights."""
    engine = {"engine": metadata.engine}
    if metadata.engine == "torch":
        engine = {"recipe": metadata.recipe}
    parameters = metadata.parameters or {}
    changes = {name: parameters.get(name) for name in ("epochs", "batch_size", "lr")}
    data = {"dataset": metadata.dataset}
    options = {"run": "again"} | data | engine | {"seed": metadata.seed} | changes
    return [command_line("download", data), command_line("train", options)]
