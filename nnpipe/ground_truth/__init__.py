"""Pictures with known labels: test digits, a folder of digits, or a CSV file that lists numbers.

`sources` says how folders and CSV files look. Every picture is read, or listed with the reason why
not.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.datasets import Dataset, Digits
from nnpipe.datasets.mnist import DISPUTED
from nnpipe.errors import EvaluationError, PictureError
from nnpipe.ground_truth.sources import LabelledFile, list_folder, list_table
from nnpipe.numbers import ways
from nnpipe.numbers.constraints import wanted
from nnpipe.numbers.reading import Number
from nnpipe.places import encode_path, in_one_line
from nnpipe.preprocess import SECONDS, Prepared, prepare
from nnpipe.processes import Function, cores, over

TITLES = {"mnist": "MNIST", "drawn": "drawn"}

BATCH = 64
"""Files that a worker process gets at once."""


@dataclass(frozen=True)
class Unread:
    """A file of a folder that no figure includes, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Labelled:
    """Pictures with their labels."""

    name: str  # "MNIST test digits", or the folder
    digits: Digits  # n pictures as the network sees them, and labels
    names: Sequence[str]  # n: "test[947]", or the path below the folder
    refusals: Sequence[str]  # n: why preprocessing refuses it as one digit; or empty
    data: Dataset | None = None  # whose test digits they are; None for a folder
    files: Sequence[Path] | None = None  # n, of a folder
    unreadable: tuple[Unread, ...] = ()  # labelled, but no pictures
    unlabelled: tuple[str, ...] = ()  # files in no digit's folder, or hidden
    disputed: frozenset[int] = frozenset()  # indices of labels that people doubt


def title(name: str) -> str:
    """Return what people call a data set."""
    return TITLES.get(name, name)


def from_dataset(data: Dataset) -> Labelled:
    """Return the test digits of a data set, as they are."""
    n = len(data.test.labels)
    return Labelled(
        name=f"{title(data.name)} test digits",
        digits=data.test,
        names=[f"test[{i}]" for i in range(n)],
        refusals=[""] * n,
        data=data,
        disputed=DISPUTED if data.name == "mnist" else frozenset(),
    )


def from_folder(folder: Path, classifier: Classifier) -> Labelled:
    """Read a folder that has a sub-folder for each digit, and prepare every picture in them.

    Worker processes read them, with the same limits of time and memory as in scoring.

    Args:
        folder: the files in its sub-folders ``0`` … ``9``, at any depth, have these labels.
        classifier: chooses the way in which each picture is understood.

    Raises:
        EvaluationError: there is no such folder, a sub-folder has another name, or no picture can
            be read.
        ProcessError: worker processes die again and again.
    """
    files, unlabelled = list_folder(folder)
    results = each(prepare, [file.path for file in files])
    readable: list[tuple[LabelledFile, Prepared]] = []
    unreadable: list[Unread] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, Prepared):
            readable.append((file, result))
        else:
            unreadable.append(Unread(file.name, in_one_line(result)))
    if not readable:
        why = f" ({unreadable[0].name}: {unreadable[0].reason})" if unreadable else ""
        raise EvaluationError(
            f"{folder}: no picture in it can be read{why}; expected {folder}/<digit>/<picture>"
        )
    judgements = classifier.judge([prepared for _, prepared in readable])
    chosen = [p.candidates[j.chosen] for (_, p), j in zip(readable, judgements, strict=True)]
    labels = [int(file.label) for file, _ in readable]
    return Labelled(
        name=encode_path(str(folder)),
        digits=Digits(np.stack([c.pixels for c in chosen]), np.array(labels, np.uint8)),
        names=[file.name for file, _ in readable],
        refusals=[candidate.refusal for candidate in chosen],
        files=[file.path for file, _ in readable],
        unreadable=tuple(unreadable),
        unlabelled=tuple(unlabelled),
    )


def each(function: Function, files: Sequence[Path]) -> Iterator[Any]:
    """Call a function with each file in worker processes; see `processes.over`."""
    # Opening a pipe would wait for a writer. Path.is_file raises for a name that is too long.
    regular = [os.path.isfile(file) for file in files]  # noqa: PTH113
    some = [file for file, is_regular in zip(files, regular, strict=True) if is_regular]
    results = over(function, some, seconds=SECONDS, workers=cores(), batch=BATCH)
    for file, is_regular in zip(files, regular, strict=True):
        if is_regular:
            yield next(results)
        elif os.path.exists(file):  # noqa: PTH110
            yield PictureError("this is no regular file")
        else:
            yield PictureError("there is no such file")


@dataclass(frozen=True)
class Numbers:
    """Pictures of numbers with their labels, and what was read from them."""

    name: str  # the CSV file
    digits: str  # how many a number has, for the reader: "any", "4" or "2-6"
    files: Sequence[Path]  # n
    names: Sequence[str]  # n, as the CSV file has them
    labels: Sequence[str]  # n, digits alone, such as "007"
    readings: Sequence[Number]  # n, of which none is an error
    unreadable: tuple[Unread, ...] = ()


def from_csv(path: Path, classifier: Classifier, *, digits: str = "any") -> Numbers:
    """Read the pictures of numbers that a CSV file lists.

    Worker processes read them, with the same limits of time and memory as in scoring.

    Args:
        path: a file with the columns ``file``, relative to the CSV file, and ``label``; the latter
            may be called ``number``.
        classifier: reads the numbers.
        digits: how many a number has: "any", "4" or "2-6".

    Raises:
        SettingError: ``digits`` has another form.
        EvaluationError: the file is no such CSV file, a label is no number, a picture is listed
            twice, or no picture can be read.
        ProcessError: worker processes die again and again.
    """
    numbers = wanted(digits)
    files = list_table(path)
    results = each(ways.prepare, [file.path for file in files])
    readings: list[Number] = []
    while batch := list(islice(results, BATCH)):
        readings += classifier.read_numbers(batch, numbers)
    pairs = list(zip(files, readings, strict=True))
    unreadable = [
        Unread(file.name, number.reason) for file, number in pairs if number.status == "error"
    ]
    if len(unreadable) == len(files):
        why = f"{unreadable[0].name}: {unreadable[0].reason}"
        raise EvaluationError(f"{path}: none of its pictures can be read ({why})")
    readable = [(file, number) for file, number in pairs if number.status != "error"]
    return Numbers(
        name=encode_path(str(path)),
        digits=digits,
        files=[file.path for file, _ in readable],
        names=[file.name for file, _ in readable],
        labels=[file.label for file, _ in readable],
        readings=[number for _, number in readable],
        unreadable=tuple(unreadable),
    )
