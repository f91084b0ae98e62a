"""Pictures with known labels: test digits, or a folder with one sub-folder per digit.

    FOLDER/0/…  FOLDER/1/…  …  FOLDER/9/…       any pictures, some of the ten, at any depth

Every file in it is read, or listed with the reason why not.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.datasets import Dataset, Digits
from nnpipe.datasets.mnist import DISPUTED
from nnpipe.errors import EvaluationError, PictureError
from nnpipe.places import encode_path, in_one_line
from nnpipe.preprocess import SECONDS, Prepared, prepare
from nnpipe.processes import cores, over
from nnpipe.scoring.entries import is_litter

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
    # Opening a pipe would wait for a writer.
    pictures = [f if f.is_file() else PictureError("this is no regular file") for f in files]
    results = over(prepare, pictures, seconds=SECONDS, workers=cores(), batch=BATCH)
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
