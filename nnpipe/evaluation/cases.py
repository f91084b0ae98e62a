"""Pictures to look at: the worst errors, the narrowest hits, labels that may be wrong, and
pictures that occur twice.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from nnpipe.network import Array

MOST = 24
"""Pictures of each kind."""


@dataclass(frozen=True)
class Cases:
    """Indices of pictures, those most worth a look first; at most `MOST` of each kind."""

    errors: tuple[int, ...]  # wrong; the most confident first
    hits: tuple[int, ...]  # right; the least confident first
    suspects: tuple[int, ...]  # wrong and not disputed; the least probable label first


def choose(labels: Array, p: Array, *, disputed: frozenset[int]) -> Cases:
    """Choose pictures by their probabilities.

    A label is the more suspect the lower its probability, its *self-confidence* (Northcutt, Jiang
    & Chuang 2021, "Confident Learning", section 3.1). Wrong labels are among the errors, but few
    errors are wrong labels.

    Args:
        labels: shape (n,).
        p: probabilities, shape (n, 10).
        disputed: indices of labels that are already in doubt.
    """
    indices = np.arange(len(labels))
    confidence, wrong = p.max(axis=1), p.argmax(axis=1) != labels
    undisputed = ~np.isin(indices, list(disputed))
    return Cases(
        errors=first(wrong, by=-confidence),
        hits=first(~wrong, by=confidence),
        suspects=first(wrong & undisputed, by=p[indices, labels]),
    )


def first(mask: Array, *, by: Array, most: int = MOST) -> tuple[int, ...]:
    """Return the indices of masked pictures in ascending order of a key; mask and key are (n,)."""
    indices = np.flatnonzero(mask)
    return tuple(indices[np.argsort(by[indices], kind="stable")[:most]].tolist())


@dataclass(frozen=True)
class Duplicate:
    """A picture with the same pixels as an earlier one."""

    index: int
    earlier: int  # index in the other set, or an earlier one in the same set
    label: int
    earlier_label: int


def find_duplicates(
    pixels: Array, labels: Array, *, earlier: tuple[Array, Array] | None = None
) -> tuple[Duplicate, ...]:
    """Find pictures that also occur earlier; only the first copy there counts.

    Args:
        pixels: uint8, shape (n, 28, 28).
        labels: shape (n,).
        earlier: pixels and labels of another set; by default, earlier pictures of the same set.
    """
    others, other_labels = earlier or (pixels, labels)
    first = {_hash(picture): i for i, picture in reversed(list(enumerate(others)))}
    pairs = ((i, first.get(_hash(picture))) for i, picture in enumerate(pixels))
    return tuple(
        Duplicate(i, j, int(labels[i]), int(other_labels[j]))
        for i, j in pairs
        if j is not None and (earlier or j < i)
    )


def _hash(picture: Array) -> bytes:
    return blake2b(picture.tobytes(), digest_size=16).digest()
