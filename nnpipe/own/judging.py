"""One labelled file → what the network sees of its digits, and whether they show the label."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.files import sha256
from nnpipe.ground_truth.sources import LabelledFile
from nnpipe.numbers import ways
from nnpipe.numbers.constraints import wanted
from nnpipe.numbers.prior import Prior, weigh
from nnpipe.numbers.reading import NONE
from nnpipe.numbers.search import Graph, locate, search
from nnpipe.numbers.ways import PreparedNumber
from nnpipe.own.pictures import OwnPictures
from nnpipe.preprocess import Candidate, Pixels, Prepared, prepare, read_file

DOUBTFUL = 0.95
"""Confidence in another label from which on a label is doubted."""

PLAUSIBLE = 0.01
"""Share of the probability of what a number is read as that its label must have. Any label could be
found in a picture by cutting it into as many pieces, which would teach nonsense. Of 118 numbers of
the open sets, 6 have less; of labels with a wrong digit, one too many or two exchanged, 3 of 340
have more."""


class Suspect(NamedTuple):
    """A picture whose label may be wrong."""

    name: str
    label: str
    answer: str  # what it is read as
    confidence: float  # in [0, 1]

    def __str__(self) -> str:
        return f"{self.name} (labelled {self.label}, read as {self.answer})"


class Look(NamedTuple):
    """What a child process finds in a file."""

    digest: str  # SHA-256
    prepared: Prepared | PreparedNumber


class Judged(NamedTuple):
    """What a labelled file shows."""

    refusal: str  # why it does not show its label; or empty
    digits: OwnPictures | None = None
    suspect: Suspect | None = None


def look(path: Path) -> Look:
    """Read and prepare a picture of a digit.

    Raises:
        PictureError: it cannot be read as a picture.
    """
    content = read_file(path)
    return Look(sha256(content), prepare(content))


def look_at_number(path: Path) -> Look:
    """Read and cut a picture of a number; see `look`."""
    content = read_file(path)
    return Look(sha256(content), ways.prepare(content))


def judge(file: LabelledFile, shown: Look, *, by: Classifier) -> Judged:
    """Ask a network whether a picture shows its label, and how it shows it best."""
    if isinstance(shown.prepared, Prepared):
        return _judge_digit(file, shown.prepared, digest=shown.digest, by=by)
    return _judge_number(file, shown.prepared, digest=shown.digest, by=by)


def _judge_digit(file: LabelledFile, prepared: Prepared, *, digest: str, by: Classifier) -> Judged:
    if all(candidate.refusal for candidate in prepared.candidates):
        return Judged(prepared.candidates[0].refusal)
    (judgement,) = by.judge([prepared])
    shares = judgement.probabilities[judgement.chosen]
    answer, confidence = str(shares.argmax()), float(shares.max())
    is_read = not prepared.candidates[judgement.chosen].refusal
    doubted = is_read and answer != file.label and confidence >= DOUBTFUL
    suspect = Suspect(file.name, file.label, answer, confidence) if doubted else None
    return Judged("", _own(file, [prepared], digest=digest, by=by), suspect)


def _judge_number(
    file: LabelledFile, prepared: PreparedNumber, *, digest: str, by: Classifier
) -> Judged:
    if prepared.refusal:
        return Judged(prepared.refusal)
    prior = Prior.load(cells=prepared.cells > 0)
    weights = [weigh(one, by.probabilities(one.pixels), prior=prior) for one in prepared.lattices]
    graph = Graph.of(prepared.lattices, weights)
    first = next(search(graph), NONE)
    as_labelled = next(search(graph, wanted(valid=[file.label])), NONE)
    if not as_labelled.share or as_labelled.share < PLAUSIBLE * first.share:
        return Judged(f"it shows {first.label or 'no number'} rather than {file.label}")
    way, pieces = locate(prepared.lattices, weights, label=file.label)
    pixels = prepared.lattices[way].pixels[pieces]
    shown = [Prepared((Candidate("", one),), prepared.width, prepared.height) for one in pixels]
    doubted = first.label != file.label and first.share >= DOUBTFUL
    suspect = Suspect(file.name, file.label, first.label, first.share) if doubted else None
    return Judged("", _own(file, shown, digest=digest, by=by), suspect)


def _own(
    file: LabelledFile, shown: Sequence[Prepared], *, digest: str, by: Classifier
) -> OwnPictures:
    """Return the digits of a file. Learned from is the way that shows the label best."""
    labels = np.array([int(digit) for digit in file.label], np.uint8)
    keys = [digest if len(shown) == 1 else f"{digest} {place}" for place in range(len(shown))]
    learned, at = [], 0
    for prepared, label in zip(shown, labels, strict=True):
        pixels: Pixels = np.array([candidate.pixels for candidate in prepared.candidates])
        shares = by.probabilities(pixels)[:, label]
        shares[[bool(candidate.refusal) for candidate in prepared.candidates]] = -1
        learned.append(at + int(shares.argmax()))
        at += len(pixels)
    every = [candidate for prepared in shown for candidate in prepared.candidates]
    counts = [len(prepared.candidates) for prepared in shown]
    return OwnPictures(
        names=np.array([file.name] * len(shown)),
        writers=np.array([file.writer] * len(shown)),
        keys=np.array(keys),
        labels=labels,
        held_out=np.zeros(len(shown), bool),
        learned=np.array(learned, np.int64),
        pixels=np.array([candidate.pixels for candidate in every]),
        owners=np.repeat(np.arange(len(shown)), counts),
        refused=np.array([bool(candidate.refusal) for candidate in every]),
        odds=np.array([candidate.odds for candidate in every], np.float64),
    )
