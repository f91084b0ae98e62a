"""Pictures to look at: the worst errors, the narrowest hits, and labels that may be wrong."""

from dataclasses import dataclass

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
