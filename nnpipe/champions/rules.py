"""The rules that a candidate must pass to become the champion, on validation digits.

Each week's candidate is judged on the same digits, so a rule must not let noise add up to a slope.
It is that of the Ladder (Blum & Hardt 2015, "The Ladder: A Reliable Leaderboard for Machine
Learning Competitions", section 3.1): a candidate counts as better only if it gains more than the
standard error of the comparison. As what was gained must be beaten by the next candidate, luck
cannot be had twice. ``benchmarks/promotion.py`` simulates years of it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnpipe import datasets
from nnpipe.classifier import Classifier
from nnpipe.classifier import champion as packaged
from nnpipe.datasets.redrawn import redraw
from nnpipe.errors import DatasetError, ExportError, TrainingError, WeightsError, needs
from nnpipe.evaluation.statistics import Estimate, compare, wilson
from nnpipe.network import Array
from nnpipe.own.pictures import OwnPictures
from nnpipe.preprocess import Pixels
from nnpipe.runs import MODEL, OWN
from nnpipe.weights import Metadata

REDRAWN = 2
"""How often each validation digit is redrawn."""

SEED = 2
"""Seed of the redrawing: all candidates are judged on the same pictures."""

MAY_FALL = 0.001
"""Share of the validation digits that a network with own pictures may read wrong beyond the last
champion without: 5 of MNIST's 5,000."""

RECALL_LOSS = 0.01
"""Largest loss of one digit's recall: a good mean must not hide a digit that got worse."""


@dataclass(frozen=True)
class Rule:
    """A condition for promotion, and whether a candidate meets it."""

    name: str
    passed: bool
    reason: str  # a sentence, with the numbers


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may become the champion, by the rules in their order.

    After "dataset" or "whole" has failed, later rules are left out.
    """

    promote: bool
    rules: tuple[Rule, ...]


def judge(candidate: Path, champion: Path, *, data_dir: Path) -> Decision:
    """Decide by the validation digits of its data set whether a candidate may become champion.

    Args:
        candidate: its weights file; its PyTorch model is looked for beside it.
        champion: the champion's weights file. If it is missing, a candidate with own pictures is
            compared with the network that comes with nnpipe, and every other whole one passes.
        data_dir: folder of the data sets.

    Raises:
        WeightsError: the champion is damaged.
        DatasetError: the digits are missing, damaged, or others than it was trained on.
        MissingExtraError: there is a PyTorch model, and torch is not installed.
    """
    try:
        new = Classifier.load(candidate)
    except WeightsError as error:
        return Decision(False, (Rule("whole", False, str(error)),))
    champion, old = rival(new.weights.metadata, champion), None
    try:
        if os.path.lexists(champion):
            old = Classifier.load(champion)
    except WeightsError as error:
        raise WeightsError(f"{error}; it is the champion", advice="rollback") from error
    own = [
        own_pictures(file, one.weights.metadata if one else None)
        for file, one in ((candidate, new), (champion, old))
    ]
    rules = [same_data(new, old, own=own)]
    if rules[0].passed:
        trained = new.weights.metadata
        data = datasets.load(trained.dataset, data_dir)
        if data.checksum != trained.dataset_checksum:
            raise DatasetError(
                f"{candidate}: was trained on other {data.name} digits than those in {data_dir}",
                advice="data_dir",
            )
        rules.append(_whole(candidate, new, validation=data.validation))
        if rules[1].passed and old and own[0]:
            rules += compare_on_both(new, old, own=own[0], validation=data.validation)
        elif rules[1].passed:
            rules += _compared(new, old, validation=data.validation)
    return Decision(all(rule.passed for rule in rules), tuple(rules))


def rival(new: Metadata, champion: Path) -> Path:
    """Return the weights file that a candidate is compared with.

    In a folder without a champion, that is the one that comes with nnpipe, if the candidate has
    learned from own pictures beside the same data set. Without it, the first network of an office
    or a writer would become champion however it reads.
    """
    if os.path.lexists(champion) or new.own is None or not packaged().exists():
        return champion
    first = Classifier.load(packaged()).weights.metadata
    return packaged() if new.dataset_checksum == first.dataset_checksum else champion


def own_pictures(weights: Path, of: Metadata | None) -> OwnPictures | None:
    """Return the pictures of one's own that a network has learned from as well.

    Args:
        weights: the weights file, beside which they lie.
        of: what the file says of itself.

    Raises:
        TrainingError: the file of the pictures is missing or damaged, or has others.
    """
    if of is None or of.own is None:
        return None
    pictures = OwnPictures.load(weights.parent / OWN)
    if pictures.checksum != of.own.checksum:
        raise TrainingError(f"{weights.parent / OWN}: has other pictures than those of {weights}")
    return pictures


def floor_of(metadata: Metadata) -> float:
    """Return the accuracy on validation digits that a successor with own pictures must keep.

    0: the file does not say.
    """
    return metadata.own.floor if metadata.own else metadata.validation_accuracy or 0.0


def same_data(
    new: Classifier, old: Classifier | None, *, own: Sequence[OwnPictures | None]
) -> Rule:
    """Ask whether a candidate comes from the same data as the champion, or from more.

    Args:
        new: the candidate.
        old: the champion; None if there is none.
        own: the pictures of one's own that each of them has learned from as well, or None.
    """
    rule = _same_dataset(new, old)
    ours, theirs = own
    if not rule.passed or not (ours or theirs):
        return rule
    lacking = {*theirs.keys} - {*(ours.keys if ours else ())} if theirs else set()
    if lacking:
        some = f"{len(lacking):,} of the champion's own pictures"
        reason = f"it has not learned from {some}; train it on the champion's {OWN}, too"
        return Rule(rule.name, False, reason)
    about = new.weights.metadata.own
    if old and about and about.floor < floor_of(old.weights.metadata):
        reason = "it was trained beside another champion; train it again beside this one"
        return Rule(rule.name, False, reason)
    count = len(ours or ())
    return Rule(rule.name, True, f"{rule.reason}; the candidate also on {count:,} own pictures")


def compare_on_both(
    new: Classifier, old: Classifier, *, own: OwnPictures, validation: datasets.Digits
) -> list[Rule]:
    """Judge a candidate with own pictures: better on these or on the others, and worse on none.

    Luck must not add up to a slope over many weeks: what may be lost on the validation digits
    counts from a fixed `floor_of` the champion, not from the last champion.

    Args:
        new: the candidate.
        old: the champion.
        own: the candidate's pictures; those that are held out count.
        validation: digits of the data set.
    """
    shared = _compared(new, old, validation=validation)
    held = own.some(own.held_out)
    if not len(held):
        reason = "none of its own pictures was held out to judge it by; add pictures"
        return [Rule("own", False, reason), *shared]
    (right, shares), (was_right, was) = held.judged(new), held.judged(old)
    floor = floor_of(old.weights.metadata)
    if not floor:  # it does not say
        floor = float((old.logits(validation.images).argmax(axis=1) == validation.labels).mean())
    now = new.logits(validation.images).argmax(axis=1) == validation.labels
    accuracy = wilson(int(now.sum()), len(now))
    kept = (
        f"it reads {_range(accuracy)} of {len(now):,} validation digits right; it must not fall "
        f"below {floor - MAY_FALL:.2%}"
    )
    counts = compare(right, was_right)
    each = (
        f"of {len(held):,} own pictures that were held out it reads "
        f"{_range(wilson(int(right.sum()), len(held)))} right, and the champion "
        f"{_range(wilson(int(was_right.sum()), len(held)))}; it must not lose more than it gains"
    )
    gain, error = difference(shares, was)
    surer = (
        f"on these, the probability of the right digit {'falls' if gain < 0 else 'rises'} by "
        f"{100 * abs(gain):.2f} points, where more than the standard error, "
        f"{100 * error:.2f} points, is needed"
    )
    better = next(rule for rule in shared if rule.name == "better")
    either = f"one of two is needed: {surer}; or {better.reason}"
    is_surer = is_better(gain, error)
    return [
        Rule("not worse", accuracy.value >= floor - MAY_FALL - 1e-9, kept),
        Rule("own", counts.lost <= counts.gained, each),
        Rule("better", is_surer or better.passed, either),
        *(rule for rule in shared if rule.name == "recall"),
    ]


def _range(share: Estimate) -> str:
    return f"{share.value:.2%} ({share.low:.1%} to {share.high:.1%})"


def _same_dataset(new: Classifier, old: Classifier | None) -> Rule:
    metadata = [c.weights.metadata for c in (new, old) if c]
    data = [f"{m.dataset} (SHA-256 {m.dataset_checksum[:12]}…)" for m in metadata]
    if old is None:
        return Rule("dataset", True, f"there is no champion, so {data[0]} will do")
    if len({(m.dataset, m.dataset_checksum) for m in metadata}) == 1:
        return Rule("dataset", True, f"both were trained on {data[0]}")
    reason = f"it was trained on {data[0]} and the champion on {data[1]}: not the same"
    return Rule("dataset", False, reason)


def _whole(candidate: Path, new: Classifier, *, validation: datasets.Digits) -> Rule:
    path = candidate.parent / MODEL
    if not os.path.lexists(path):
        # Weights that PyTorch trained must be compared with the PyTorch model.
        passed = new.weights.metadata.engine != "torch"
        note = f"there is no {MODEL} to compare it with" if not passed else "NumPy trained it"
        return Rule("whole", passed, f"it computes what it did when it was written; {note}")
    with needs("train", "comparing a candidate with its PyTorch model"):
        from nnpipe.torch_training import model
    try:
        parity = model.check_parity(model.load_model(path), new.weights.network, digits=validation)
    except ExportError as error:
        return Rule("whole", False, str(error))
    reason = (
        f"NumPy and PyTorch read all {parity.digits:,} validation digits alike "
        f"(probabilities within {parity.largest_difference:.1e})"
    )
    return Rule("whole", True, reason)


def _compared(
    new: Classifier, old: Classifier | None, *, validation: datasets.Digits
) -> list[Rule]:
    if old is None:
        alone = "there is no champion to compare it with"
        return [Rule(name, True, alone) for name in ("not worse", "better", "recall")]
    images, labels = validation
    pictures, rows = present(images)
    right, score, was_right, was = (
        array
        for c in (new, old)
        for array in scores(
            c.logits(images).argmax(axis=1) == labels,
            c.logits(pictures).argmax(axis=1) == labels[rows],
            rows=rows,
        )
    )
    return compare_scores((right, score), (was_right, was), labels=labels)


def compare_scores(
    new: tuple[Array, Array], old: tuple[Array, Array], *, labels: Array
) -> list[Rule]:
    """Judge a candidate against the champion.

    Args:
        new: of the candidate, for each of n digits: whether it reads the digit right, and its
            score; see `scores`.
        old: the same of the champion.
        labels: of the digits.
    """
    (right, score), (was_right, was) = new, old
    counts = compare(right, was_right)
    totals = (
        f"of {len(labels):,} validation digits it gains {counts.gained:,} and loses "
        f"{counts.lost:,} (p = {counts.p_value:.2g}, exact McNemar test); it must not lose more "
        "than it gains"
    )
    gain, error = difference(score, was)
    better = (
        f"of the same digits, half as they are and half redrawn as pictures, it reads "
        f"{score.mean():.2%} right and the champion {was.mean():.2%}; it must gain more than one "
        f"standard error, {100 * error:.2f} points"
    )
    recalls = [
        (was_right[labels == digit].mean(), right[labels == digit].mean(), digit)
        for digit in np.unique(labels)
    ]
    before, now, digit = max(recalls, key=lambda recall: recall[0] - recall[1])
    passed = bool(before - now <= RECALL_LOSS + 1e-9)  # as floats, 0.99 − 0.98 is more than 0.01
    each = (
        f"{'no digit loses more than' if passed else 'the most that a digit may lose is'} "
        f"{100 * RECALL_LOSS:.0f} point of recall; digit {digit} does worst, {before:.2%} before "
        f"and {now:.2%} now"
    )
    return [
        Rule("not worse", counts.lost <= counts.gained, totals),
        Rule("better", is_better(gain, error), better),
        Rule("recall", passed, each),
    ]


def present(images: Pixels) -> tuple[Pixels, NDArray[np.intp]]:
    """Redraw validation digits as people present them; see `redraw`.

    Args:
        images: shape (n, 28, 28).

    Returns:
        The pictures (m, 28, 28), m ≥ n, and which of the n digits each of them shows, (m,).
    """
    redrawn = redraw(np.concatenate([images] * REDRAWN), np.random.default_rng(SEED))
    return redrawn.digits, redrawn.rows % len(images)


def scores(right: Array, redrawn: Array, *, rows: Array) -> tuple[Array, Array]:
    """Return which of n digits are read right, and a score in [0, 1] for each.

    The score is half for the digit as it is, and half for the share of its pictures.

    Args:
        right: whether each digit is read right, (n,).
        redrawn: whether each picture is read right, (m,).
        rows: which of the digits each picture shows, (m,).
    """
    shares = np.bincount(rows, weights=redrawn) / np.bincount(rows)
    return right, (right + shares) / 2


def difference(new: Array, old: Array) -> tuple[float, float]:
    """Return the mean difference of two networks' scores, (n,) each, and its standard error.

    Both read the same digits, so the error is that of the paired differences.
    """
    differences = new - old
    return float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))


def is_better(gain: float, error: float) -> bool:
    """Return True if a gain is more than its standard error."""
    return gain > error
