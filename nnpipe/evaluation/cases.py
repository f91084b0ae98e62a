"""The pictures to look at: the worst errors, the narrowest hits, labels that may be wrong."""

from dataclasses import dataclass

import numpy as np

from nnpipe.network import Array

MOST = 24


@dataclass(frozen=True)
class Cases:
    """Pictures in the order in which they are worth a look, `MOST` of each at most."""

    errors: tuple[int, ...]  # wrong, the most confident first
    hits: tuple[int, ...]  # right, the least confident first
    suspects: tuple[int, ...]  # wrong; the least probable label first, disputed ones left out


def choose(labels: Array, p: Array, disputed: frozenset[int]) -> Cases:
    """Choose pictures by their probabilities.

    A label is the more suspect, the less the network believes it: its *self-confidence*
    (Northcutt, Jiang & Chuang 2021, "Confident Learning", section 3.1). Wrong labels are found
    among the errors; nothing says that an error is one of them.

    Args:
        labels: shape (n,).
        p: probabilities, shape (n, 10).
        disputed: indices that are known already.
    """
    confidence, wrong = p.max(axis=1), p.argmax(axis=1) != labels
    of_label = p[np.arange(len(labels)), labels]
    known = np.isin(np.arange(len(labels)), list(disputed))
    return Cases(
        errors=_first(np.flatnonzero(wrong), -confidence),
        hits=_first(np.flatnonzero(~wrong), confidence),
        suspects=_first(np.flatnonzero(wrong & ~known), of_label),
    )


def _first(which: Array, by: Array) -> tuple[int, ...]:
    return tuple(which[np.argsort(by[which], kind="stable")[:MOST]].tolist())
