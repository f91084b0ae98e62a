"""How probable each piece of a lattice is as each digit: what the network says, and its shape.

The weight of a path is the product of the weights of its pieces, and of the parts that it passes
over. The logarithm of each is linear in a few features, so the whole is a semi-Markov conditional
random field (Sarawagi & Cohen 2004, "Semi-Markov Conditional Random Fields for Information
Extraction", section 2). Its coefficients, in `prior.json`, make composed numbers as probable as
possible; ``benchmarks/fit_prior.py`` finds them. A row of boxes for one digit each has coefficients
of its own, in `cells.json`, from ``benchmarks/fit_cells.py``.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.files import sha256
from nnpipe.numbers.pieces import Lattice

SHAPE = ("piece", "low", "high", "off", "crossed", "through", "gap", "free", "wide")
"""Features of a piece: 1; square of the logarithm of its height, if lower or if higher than the
line; square of its distance from the middle of the line; ink that the cuts on both sides cross, and
how many of them cross any; its widest gap; whether it can be parted without crossing ink; width
above 0.9. Lengths are in heights of the line."""

PART = ("part", "height", "mass", "bar", "upright", "beyond", "stroke", "seen")
"""Features of a part that is passed over: 1; its height; its ink; whether it is high and narrow, as
a rule is, whether such a bar stands upright while the digits lean, and how far it reaches beyond
the line; whether it is high and no bar; how surely the network sees a digit other than 1 in it."""

PLACE = ("aside", "spill")
"""Features of a piece in a row of boxes: square of the distance of its middle from that of the
nearest box, and how far it reaches beyond this box; both in widths of a box."""

CUTTING = 3
"""Version of the cutting of pictures into pieces; raise it with each change."""

FREE, CELLS = (Path(__file__).with_name(name) for name in ("prior.json", "cells.json"))

Array = npt.NDArray[np.float64]


def version() -> str:
    """Return the version of the reading of numbers, of the same weights."""
    return f"{CUTTING}-{sha256(FREE.read_bytes() + CELLS.read_bytes())[:8]}"


class Prior(NamedTuple):
    """The coefficients."""

    network: float  # of the logarithm of the network's probability
    doubt: float  # share of pieces that the network is wrong about for no reason it could see
    shape: Array  # (S,) of `SHAPE`, and of `PLACE` in a row of boxes
    part: Array  # (P,) of `PART`
    torn: float  # of ink that is read on one side of a cut and passed over on the other
    ways: dict[str, float]  # logarithm of the odds of each way to understand a picture
    unknown: float  # weight of a piece being no digit, per probability that the network lacks to 1

    @classmethod
    @cache
    def load(cls, *, cells: bool = False) -> "Prior":
        """Load the coefficients that come with nnpipe, or those of a row of boxes."""
        values = json.loads((CELLS if cells else FREE).read_text(encoding="utf-8"))
        names = {"shape": SHAPE + PLACE * cells, "part": PART}
        arrays = {of: np.array([values[of][name] for name in some]) for of, some in names.items()}
        return cls(**values | arrays)


class Weights(NamedTuple):
    """The weights of what a path through a lattice may contain."""

    digits: Array  # (E, 11): each piece as each digit, and, last, as something unknown
    passed: Array  # (n,): each part, passed over
    torn: Array  # (n + 1,): each cut, between a piece that is read and a part that is passed over
    way: float


def placed(lattice: Lattice, *, cells: int, width: float) -> Lattice:
    """Return a lattice of a row of boxes for one digit each, whose pieces have `PLACE`, too.

    Args:
        lattice: the pieces.
        cells: how many boxes of equal width the picture shows.
        width: of the picture, in its own pixels.
    """
    left, _, right, _ = lattice.boxes.T * cells / width
    middle = (left + right) / 2
    nearest = np.floor(middle).clip(0, cells - 1)
    aside = (middle - nearest - 0.5) ** 2
    spill = np.maximum(nearest - left, right - nearest - 1).clip(0, 1)
    return lattice._replace(shapes=np.column_stack([lattice.shapes, aside, spill]))


def parts_features(lattice: Lattice, probabilities: Array) -> Array:
    """Return the features of each part if it is passed over, (n, P)."""
    seen = np.zeros(lattice.parts)
    np.maximum.at(seen, lattice.main, np.delete(probabilities, 1, axis=1).max(axis=1))
    return np.column_stack([lattice.parts_shapes, seen])


def weigh(lattice: Lattice, probabilities: Array, *, prior: Prior) -> Weights:
    """Weigh the pieces of a lattice.

    Args:
        lattice: the pieces.
        probabilities: (E, 10), what the network says of each piece.
        prior: the coefficients.
    """
    unlike = prior.unknown * (1 - probabilities.max(axis=1, keepdims=True))
    shares = np.hstack([(1 - prior.doubt) * probabilities + prior.doubt / 10, unlike + 1e-12])
    logs = prior.network * np.log(shares) + (lattice.shapes @ prior.shape)[:, None]
    passed = parts_features(lattice, probabilities) @ prior.part
    digits, parts = (np.exp(x.clip(-60, 3)) for x in (logs, passed))
    torn = np.exp(prior.torn * lattice.through)
    return Weights(digits, parts, torn, float(np.exp(prior.ways[lattice.way])))
