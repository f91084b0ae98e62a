"""Pictures of which one knows what they show: test digits, or a folder with one folder per digit.

    FOLDER/0/…  FOLDER/1/…  …  FOLDER/9/…       any pictures, any of the ten, at any depth

Whatever lies there is read, or said not to have been.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    """A file of a folder that no figure knows of, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Labelled:
    """Pictures with their labels."""

    name: str  # "MNIST test digits", or the folder
    digits: Digits  # n pictures as the network sees them, and labels
    names: Sequence[str]  # n: "test[947]", or the path below the folder
    refusals: Sequence[str]  # n: why preprocessing finds that this is not one digit; or empty
    files: Sequence[Path] | None = None  # n, of a folder
    unreadable: tuple[Unread, ...] = ()  # labelled, but no pictures
    unlabelled: tuple[str, ...] = ()  # what lies in no digit's folder, or is hidden
    disputed: frozenset[int] = frozenset()  # indices of labels that people doubt


def from_dataset(data: Dataset) -> Labelled:
    """The test digits of a data set, as they are."""
    n = len(data.test.labels)
    return Labelled(
        name=f"{TITLES[data.name]} test digits",
        digits=data.test,
        names=[f"test[{i}]" for i in range(n)],
        refusals=[""] * n,
        disputed=DISPUTED if data.name == "mnist" else frozenset(),
    )


def from_folder(folder: Path, workers: int | None = None) -> Labelled:
    """Read a folder that has a sub-folder for each digit, and prepare every picture in them.

    Worker processes read them, with the limits of time and memory that scoring has.

    Args:
        folder: what lies in its sub-folders ``0`` … ``9``, at any depth, is labelled so.
        workers: processes that read; by default one for each core.

    Raises:
        EvaluationError: there is no such folder, a sub-folder is named otherwise, or there is no
            picture that can be read.
        ProcessError: worker processes die again and again.
    """
    files, unlabelled = _list(folder)
    # To open a pipe would be to wait for a writer.
    pictures = [f if f.is_file() else PictureError("this is no regular file") for f in files]
    workers = workers or cores()
    prepared = list(over(prepare, pictures, seconds=SECONDS, workers=workers, batch=BATCH))
    readable = [(f, p) for f, p in zip(files, prepared, strict=True) if isinstance(p, Prepared)]
    names = [_name(file, folder) for file in files]
    unreadable = tuple(
        Unread(n, in_one_line(p))
        for n, p in zip(names, prepared, strict=True)
        if not isinstance(p, Prepared)
    )
    if not readable:
        why = f" ({unreadable[0].name}: {unreadable[0].reason})" if unreadable else ""
        raise EvaluationError(
            f"{folder}: no picture in it can be read{why}; expected {folder}/<digit>/<picture>"
        )
    labels = [int(file.relative_to(folder).parts[0]) for file, _ in readable]
    return Labelled(
        name=encode_path(str(folder)),
        digits=Digits(np.stack([p.pixels for _, p in readable]), np.array(labels, np.uint8)),
        names=[n for n, p in zip(names, prepared, strict=True) if isinstance(p, Prepared)],
        refusals=[p.refusal for _, p in readable],
        files=[file for file, _ in readable],
        unreadable=unreadable,
        unlabelled=tuple(unlabelled),
    )


def _list(folder: Path) -> tuple[list[Path], list[str]]:
    """The files that have a digit, in the order of their paths, and the names of the others."""
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
            # Links to folders are not followed, which might never end, but named.
            links = [name for name in folders if Path(place, name).is_symlink()]
            found = [Path(place, name) for name in (*links, *names)]
            files += [file for file in found if not is_litter(file.name)]
            left_out += [file for file in found if is_litter(file.name)]
            left_out += [Path(place, name) for name in folders if is_litter(name)]
            folders[:] = [name for name in folders if not is_litter(name)]
    return sorted(files), sorted(_name(entry, folder) for entry in left_out)


def _name(path: Path, folder: Path) -> str:
    return encode_path(str(path.relative_to(folder)))
