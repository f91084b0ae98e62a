"""Which pictures are learned from, and which are held out to judge by.

Pictures that belong together are never on both sides: all of a writer, and all that look nearly
the same. Which group is held out follows from its content, not from the order of the files or from
a seed.
"""

import hashlib
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.own.pictures import Mask, Text, file_of
from nnpipe.preprocess import Pixels

HELD_OUT = 0.2
"""Share of the pictures that is held out."""

LEAST_WRITERS = 5
"""Writers from which on all pictures of a writer are on one side."""

ALIKE = 0.99
"""Correlation of two pictures from which on they count as the same one, seen twice. Of 8,000 of
MNIST's training digits, 4 % have another one that is as alike; nearly all of these are ones."""

MOST_COMPARED = 20_000
"""Pictures up to which each is compared with all others."""

TOGETHER = 1000
"""Pictures that are compared with all others at once."""

Groups = npt.NDArray[np.int64]


def are_known(writers: Text) -> bool:
    """Return whether there are enough writers to keep all pictures of each on one side."""
    return len(np.unique(writers[writers != ""])) >= LEAST_WRITERS


def group(pixels: Pixels, *, writers: Text, keys: Text) -> Groups:
    """Return the number of the group of each of n pictures.

    Args:
        pixels: (n, 28, 28).
        writers: (n,) empty if not known. With fewer than `LEAST_WRITERS`, they do not count.
        keys: (n,) "SHA-256" or "SHA-256 place"; the digits of a number belong together.
    """
    by_writer = are_known(writers)
    marks = np.array([file_of(key) for key in keys], object)
    if by_writer:
        marks = np.where(writers != "", np.char.add("writer ", writers), marks)
    _, first, inverse = np.unique(marks.astype(str), return_index=True, return_inverse=True)
    groups = first[inverse].astype(np.int64)
    if by_writer:  # the ones of two writers may look alike by chance, and would join their groups
        return groups
    for rows in near_duplicates(pixels):
        joined = np.unique(groups[rows])
        if len(joined) > 1:
            groups[np.isin(groups, joined)] = joined[0]
    return groups


def near_duplicates(pixels: Pixels) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the number of a picture of n, (n, 28, 28), and those of later ones nearly the same."""
    if len(pixels) > MOST_COMPARED:
        return
    soft = [cv2.GaussianBlur(one, (0, 0), 1.0).ravel() for one in pixels.astype(np.float32)]
    centred = np.array(soft).reshape(len(pixels), -1)
    centred -= centred.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    for start in range(0, len(centred), TOGETHER):
        alike = centred[start : start + TOGETHER] @ centred[start:].T > ALIKE
        for number in np.flatnonzero(alike.sum(axis=1) > 1):
            yield start + number + np.flatnonzero(alike[number, number:])


def hold_out(groups: Groups, keys: Text, *, before: dict[str, bool]) -> Mask:
    """Return which of n pictures are held out.

    Args:
        groups: of each picture; see `group`.
        keys: of each picture.
        before: for pictures of an earlier training, by key, whether they were held out. They stay
            on their side. A new one in their group is held out if all of them are.
    """
    held = np.array([before.get(key, False) for key in keys], bool)
    new = []
    for number in np.unique(groups):
        rows = np.flatnonzero(groups == number)
        sides = [before[key] for key in keys[rows] if key in before]
        if not sides:
            new.append((hashlib.sha256(min(keys[rows]).encode()).digest(), rows))
        elif all(sides):  # what is like a picture that was learned from cannot judge
            held[rows] = True
    wanted, count = max(round(HELD_OUT * len(groups)), 1), int(held.sum())
    for _, rows in sorted(new, key=lambda one: one[0]):
        if count + len(rows) / 2 <= wanted and count + len(rows) < len(groups):
            held[rows] = True
            count += len(rows)
    return held
