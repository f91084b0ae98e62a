"""The rules that a candidate must pass to become the champion, on validation digits."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnpipe import datasets
from nnpipe.classifier import Classifier
from nnpipe.errors import DatasetError, ExportError, WeightsError, needs
from nnpipe.evaluation.statistics import compare
from nnpipe.runs import MODEL

SIGNIFICANCE = 0.05
"""Significance level of the McNemar test: below it, a candidate with fewer correct digits counts as
worse."""

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
        champion: the champion's weights file. If it is missing, every whole candidate passes.
        data_dir: folder of the data sets.

    Raises:
        WeightsError: the champion is damaged.
        DatasetError: the digits are missing, damaged, or others than it was trained on.
        MissingExtraError: there is a PyTorch model, and torch is not installed.
    """
    old = None
    try:
        if os.path.lexists(champion):
            old = Classifier.load(champion)
    except WeightsError as error:
        raise WeightsError(f"{error}; it is the champion", advice="rollback") from error
    try:
        new = Classifier.load(candidate)
    except WeightsError as error:
        return Decision(False, (Rule("whole", False, str(error)),))
    rules = [_same_dataset(new, old)]
    if rules[0].passed:
        trained = new.weights.metadata
        data = datasets.load(trained.dataset, data_dir)
        if data.checksum != trained.dataset_checksum:
            raise DatasetError(
                f"{candidate}: was trained on other {data.name} digits than those in {data_dir}",
                advice="data_dir",
            )
        rules.append(_whole(candidate, new, validation=data.validation))
        if rules[1].passed:
            rules += _compared(new, old, validation=data.validation)
    return Decision(all(rule.passed for rule in rules), tuple(rules))


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
    images, labels = validation
    if old is None:
        alone = "there is no champion to compare it with"
        return [Rule("not worse", True, alone), Rule("recall", True, alone)]
    right, was_right = (c.logits(images).argmax(axis=1) == labels for c in (new, old))
    comparison = compare(right, was_right)
    gained, lost, p = comparison.gained, comparison.lost, comparison.p_value
    worse = lost > gained and p < SIGNIFICANCE
    totals = (
        f"of {len(labels):,} validation digits it gains {gained:,} and loses {lost:,} "
        f"(p = {p:.2g}, exact McNemar test), which is {'' if worse else 'not '}worse "
        f"at {SIGNIFICANCE:.0%}"
    )
    recalls = [
        (was_right[labels == digit].mean(), right[labels == digit].mean(), digit)
        for digit in np.unique(labels)
    ]
    before, now, digit = max(recalls, key=lambda recall: recall[0] - recall[1])
    passed = bool(before - now <= RECALL_LOSS + 1e-9)  # as floats, 0.99 − 0.98 is more than 0.01
    each = (
        f"{'no digit loses more than' if passed else 'the most that a digit may lose is'} "
        f"{RECALL_LOSS:.0%} of its recall; digit {digit} does worst, {before:.2%} before and "
        f"{now:.2%} now"
    )
    return [Rule("not worse", not worse, totals), Rule("recall", passed, each)]
