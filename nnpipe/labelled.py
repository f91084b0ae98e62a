"""Pictures with known labels: test digits, a folder of digits, or a CSV file that lists numbers.

    FOLDER/0/…  FOLDER/1/…  …  FOLDER/9/…       any pictures, some of the ten, at any depth
    labels.csv: file,label                      pictures of numbers, beside the file or below it

Every picture is read, or listed with the reason why not.
"""

import csv
import io
import os
import re
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
from nnpipe.numbers import ways
from nnpipe.numbers.constraints import MOST_DIGITS, wanted
from nnpipe.numbers.reading import Number
from nnpipe.places import encode_path, in_one_line, printable_name
from nnpipe.preprocess import SECONDS, Prepared, prepare
from nnpipe.processes import Function, cores, over
from nnpipe.records import read_bytes
from nnpipe.scoring.entries import is_litter

TITLES = {"mnist": "MNIST", "drawn": "drawn"}

BATCH = 64
"""Files that a worker process gets at once."""

SEPARATORS = " .,:-/'"
"""Signs in the label of a number that are ignored."""


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


def from_dataset(data: Dataset) -> Labelled:
    """Return the test digits of a data set, as they are."""
    n = len(data.test.labels)
    return Labelled(
        name=f"{TITLES[data.name]} test digits",
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
    files, unlabelled = _list(folder)
    results = _each(prepare, files)
    readable: list[tuple[Path, Prepared]] = []
    unreadable: list[Unread] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, Prepared):
            readable.append((file, result))
        else:
            unreadable.append(Unread(_name(file, folder), in_one_line(result)))
    if not readable:
        why = f" ({unreadable[0].name}: {unreadable[0].reason})" if unreadable else ""
        raise EvaluationError(
            f"{folder}: no picture in it can be read{why}; expected {folder}/<digit>/<picture>"
        )
    judgements = classifier.judge([prepared for _, prepared in readable])
    chosen = [p.candidates[j.chosen] for (_, p), j in zip(readable, judgements, strict=True)]
    labels = [int(file.relative_to(folder).parts[0]) for file, _ in readable]
    return Labelled(
        name=encode_path(str(folder)),
        digits=Digits(np.stack([c.pixels for c in chosen]), np.array(labels, np.uint8)),
        names=[_name(file, folder) for file, _ in readable],
        refusals=[candidate.refusal for candidate in chosen],
        files=[file for file, _ in readable],
        unreadable=tuple(unreadable),
        unlabelled=tuple(unlabelled),
    )


def _each(function: Function, files: Sequence[Path]) -> Iterator[Any]:
    """Call a function with each file in worker processes; see `processes.over`."""
    # Opening a pipe would wait for a writer.
    pictures = [f if f.is_file() else PictureError("this is no regular file") for f in files]
    return over(function, pictures, seconds=SECONDS, workers=cores(), batch=BATCH)


def _list(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files that have a label, in the order of their paths, and the others' names."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise EvaluationError(
            f"{folder}: is no folder that can be read ({error.strerror}); "
            "expected one with a sub-folder for each digit, 0 … 9"
        ) from None
    left_out = [entry for entry in entries if not entry.is_dir() or is_litter(entry.name)]
    kinds = [entry for entry in entries if entry not in left_out]
    for kind in kinds:
        if len(kind.name) != 1 or kind.name not in "0123456789":
            raise EvaluationError(
                f"{folder}: its sub-folder '{_name(kind, folder)}' is no digit; each sub-folder "
                "is named 0 … 9 after what its pictures show, so rename it or move it away"
            )

    def stop(error: OSError) -> None:
        raise EvaluationError(f"{error.filename}: cannot be listed ({error.strerror})")

    files = []
    for kind in kinds:
        for place, folders, names in os.walk(kind, onerror=stop):
            # Links to folders are named and not followed, which might never end.
            links = [name for name in folders if Path(place, name).is_symlink()]
            left_out += [Path(place, name) for name in (*folders, *names) if is_litter(name)]
            files += [Path(place, name) for name in (*links, *names) if not is_litter(name)]
            folders[:] = [name for name in folders if not is_litter(name)]
    return sorted(files), sorted(_name(entry, folder) for entry in left_out)


def _name(path: Path, folder: Path) -> str:
    return encode_path(str(path.relative_to(folder)))


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
    rows = _rows(path)
    results = _each(ways.prepare, [path.parent / name for name, _ in rows])
    readings: list[Number] = []
    while batch := list(islice(results, BATCH)):
        readings += classifier.read_numbers(batch, numbers)
    pairs = list(zip(rows, readings, strict=True))
    unreadable = [
        Unread(encode_path(name), number.reason)
        for (name, _), number in pairs
        if number.status == "error"
    ]
    if len(unreadable) == len(rows):
        why = f"{unreadable[0].name}: {unreadable[0].reason}"
        raise EvaluationError(f"{path}: none of its pictures can be read ({why})")
    readable = [(row, number) for row, number in pairs if number.status != "error"]
    return Numbers(
        name=encode_path(str(path)),
        digits=digits,
        files=[path.parent / name for (name, _), _ in readable],
        names=[encode_path(name) for (name, _), _ in readable],
        labels=[label for (_, label), _ in readable],
        readings=[number for _, number in readable],
        unreadable=tuple(unreadable),
    )


def _rows(path: Path) -> list[tuple[str, str]]:
    """Return the files that a CSV file lists, and their labels without separators."""
    expected = "expected the columns file and label, and one picture per line"
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); {expected}") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{path}: is no CSV file in UTF-8; {expected}") from None
    # Spreadsheets write semicolons where a comma is the decimal point.
    delimiter = max(",;\t", key=text.strip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise EvaluationError(f"{path}: line {reader.line_num}: {error}; {expected}") from None
    columns = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    kind = "label" if "label" in columns else "number"
    if not {"file", kind} <= set(columns):
        raise EvaluationError(f"{path}: lacks a column; {expected}")
    if len(lines) == 1:
        raise EvaluationError(f"{path}: lists no picture; {expected}")
    rows, known = list[tuple[str, str]](), dict[str, int]()
    for line, cells in lines[1:]:
        if len(cells) != len(columns):
            raise EvaluationError(
                f"{path}: line {line} has {len(cells)} cells, and the first line {len(columns)}; "
                "put a label with commas in quotes"
            )
        name, label = cells[columns.index("file")], cells[columns.index(kind)]
        digits = label.translate(str.maketrans("", "", SEPARATORS))
        if not re.fullmatch(f"[0-9]{{1,{MOST_DIGITS}}}", digits):
            shown = printable_name(label)[:40]
            raise EvaluationError(
                f"{path}: line {line}: the label '{shown}' is not a number of 1 to {MOST_DIGITS} "
                "digits; correct it, or remove the line"
            )
        before = known.setdefault(os.path.normpath(name), line)
        if before != line:
            raise EvaluationError(
                f"{path}: line {line} has the picture of line {before} again; remove one of them"
            )
        rows.append((name, digits))
    return rows
