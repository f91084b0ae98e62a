"""Parts of a line → pieces, runs of neighbouring parts, each of which may be a digit.

Pieces are the edges of a lattice whose nodes are the cuts. A path through it from the first to the
last cut, along pieces and parts that are passed over, is a way to read the line.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.numbers.cuts import Cuts, cut
from nnpipe.numbers.line import Line, moments
from nnpipe.preprocess.drawing import draw
from nnpipe.preprocess.mnist_like import FAINTEST
from nnpipe.preprocess.pictures import Pixels

MOST = 5
"""Parts of a digit."""

WIDEST, CLEAR = 1.7, 0.22
"""Heights of the line: the width of a digit, and a gap that no digit has."""

MANY = 80
"""Parts of a line. More of them make a text, a pattern or noise."""

TALL, NARROW = 0.6, 0.2
"""Heights of the line: what is higher than the one and narrower than the other may be a rule."""

UPRIGHT = 0.08
"""Lean, to the right per height, of what stands upright."""

LOWEST = 3
"""Rows of a line; fewer hold no digit."""

FREE = 0.1
"""Ink, in pens, that a cut through nothing but paper crosses at most."""

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


class Lattice(NamedTuple):
    """The pieces of a line, E of them, between n + 1 cuts."""

    way: str  # how the picture was understood
    parts: int  # n
    first: Ints  # (E,): the cut before each piece
    last: Ints  # (E,): the cut after it
    pixels: Pixels  # (E, 28, 28): the piece as MNIST would have drawn it
    shapes: Array  # (E, S): see `prior.SHAPE`
    parts_shapes: Array  # (n, P): of each part alone, see `prior.PART`
    main: Ints  # (E,): the part that has most of the piece's ink
    through: Bools  # (n + 1,): which cuts cross ink
    separators: tuple[str, ...]  # n times: what each part alone looks like, or ""
    boxes: Array  # (E, 4): left, top, right, bottom on the picture, in its own pixels


def lattice(line: Line, way: str) -> Lattice | None:
    """Build the lattice of a line.

    Returns:
        None if there are no pieces, or too many.
    """
    if len(line.strength) < LOWEST:
        return None
    cuts = cut(line)
    n = len(cuts.crossed) - 1
    if n > MANY:
        return None
    parts = _Parts(line, cuts)
    edges = parts.edges()
    if not edges:
        return None
    first, last = np.array(edges, np.intp).T
    boxes = np.array([parts.box(*edge) for edge in edges])
    gaps = np.array([parts.gap(*edge) for edge in edges])
    return Lattice(
        way=way,
        parts=n,
        first=first,
        last=last,
        pixels=np.array([parts.drawn(*edge) for edge in edges], np.uint8),
        shapes=_shapes(line, cuts, edges=(first, last), boxes=boxes, gaps=gaps),
        parts_shapes=_parts_shapes(line, parts),
        main=np.array([a + int(parts.mass[a:b].argmax()) for a, b in edges]),
        through=cuts.crossed > FREE,
        separators=tuple(map(parts.separator, range(n))),
        boxes=_on_picture(boxes, line),
    )


class _Parts:
    """Measures of the n parts of a line, and of runs of them."""

    def __init__(self, line: Line, cuts: Cuts) -> None:
        self.strength, self.parts, self.high = line.strength, cuts.parts, line.height
        self.top = line.top
        n, (height, width) = len(cuts.crossed) - 1, line.strength.shape
        rows, columns = np.nonzero(line.strength > FAINTEST)
        part = cuts.parts[rows, columns]
        across = np.bincount(part * width + columns, minlength=n * width)
        down = np.bincount(part * height + rows, minlength=n * height)
        self.across = across.reshape(n, width) > 0  # which columns each part reaches
        self.down = down.reshape(n, height) > 0
        mass = np.bincount(cuts.parts.ravel(), line.strength.ravel(), n)
        self.mass = mass / 255 / line.height**2
        slanted, upright = moments(part, (columns, rows), n=n)
        self.lean = -slanted / np.maximum(upright, 1)
        self.lean -= line.to_picture[0, 1] / line.to_picture[1, 1]  # as on the picture
        self.inked: Bools = np.asarray(self.across.any(axis=1))

    def edges(self) -> list[tuple[int, int]]:
        """Return the runs of parts that may be a digit: the first, and one past the last."""
        edges = []
        for first in np.flatnonzero(self.inked).tolist():
            for last in range(first + 1, min(len(self.inked), first + MOST) + 1):
                left, _, right, _ = self.box(first, last)
                wide = right - left > WIDEST * self.high and last > first + 1
                if wide or self.gap(first, last) > CLEAR:
                    break
                if self.inked[last - 1]:
                    edges.append((first, last))
        return edges

    def box(self, first: int, last: int) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of the ink of a run."""
        columns = np.flatnonzero(self.across[first:last].any(axis=0))
        rows = np.flatnonzero(self.down[first:last].any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def gap(self, first: int, last: int) -> float:
        """Return the widest gap between columns of ink in a run, in heights."""
        columns = np.flatnonzero(self.across[first:last].any(axis=0))
        return float(np.diff(columns).max(initial=1) - 1) / self.high

    def drawn(self, first: int, last: int) -> Pixels:
        """Draw a run of parts as MNIST would have drawn a digit."""
        left, top, right, bottom = self.box(first, last)
        part = self.parts[top:bottom, left:right]
        inside = (part >= first) & (part < last)
        return draw(self.strength[top:bottom, left:right] * inside)

    def separator(self, part: int) -> str:
        """Return the separator that a part looks like, or ""."""
        if not self.inked[part]:
            return ""
        left, top, right, bottom = self.box(part, part + 1)
        wide, high = (right - left) / self.high, (bottom - top) / self.high
        upper, lower = (top - self.top) / self.high, (bottom - self.top) / self.high
        rows = np.flatnonzero(self.down[part])
        if 0.15 < wide < 0.9 and wide > 1.6 * high and 0.25 < (upper + lower) / 2 < 0.75:
            return "-"
        if wide > 0.35 or high > 0.75:
            return ""
        if np.diff(rows).max(initial=1) - 1 > 0.15 * self.high and high > 0.3:
            return ":"
        if lower > 1.1 and upper > 0.55 and high > 0.15:
            return ","
        return "." if upper > 0.55 and high < 0.35 else ""


def _shapes(
    line: Line, cuts: Cuts, *, edges: tuple[Ints, Ints], boxes: Array, gaps: Array
) -> Array:
    """Measure the pieces, (E, S); lengths are in heights of the line."""
    first, last = edges
    left, top, right, bottom = boxes.T
    size = np.log((bottom - top) / line.height)
    off = ((top + bottom) - (line.top + line.bottom)) / 2 / line.height
    crossed = np.minimum(cuts.crossed, 3)
    through = crossed > FREE
    free = np.array([(~through[a + 1 : b]).any() for a, b in zip(first, last, strict=True)])
    return np.stack(
        [
            np.ones(len(first)),
            np.minimum(size, 0) ** 2,
            np.maximum(size, 0) ** 2,
            np.minimum(off**2, 1),
            crossed[first] + crossed[last],
            through[first] * 1.0 + through[last],
            gaps,
            free,
            np.maximum((right - left) / line.height - 0.9, 0),
        ],
        axis=1,
    )


def _parts_shapes(line: Line, parts: _Parts) -> Array:
    """Measure each part alone, (n, P), in case it is passed over."""
    size, width = (
        np.array([np.ptp(np.flatnonzero(one)) + 1 if one.any() else 0 for one in axis])
        for axis in (parts.down, parts.across)
    )
    size = np.minimum(size / line.height, 1.5)
    tall = size > TALL
    bar = tall & (width < NARROW * line.height)
    upright = (np.abs(parts.lean) < UPRIGHT) & (abs(line.slant) > 2 * UPRIGHT)
    rows = np.arange(len(line.strength))
    beyond = (parts.down & ((rows < line.top) | (rows > line.bottom))).sum(axis=1) / line.height
    return np.stack(
        [
            np.ones(len(size)),
            size,
            np.minimum(8 * parts.mass, 3),
            bar,
            bar & upright,
            bar * np.minimum(beyond, 1),
            tall & ~bar,
        ],
        axis=1,
    )


def _on_picture(boxes: Array, line: Line) -> Array:
    """Turn boxes on the line, (E, 4), into those on the picture; a slanted one is taken halfway."""
    left, top, right, bottom = boxes.T
    x, y = (left + right) / 2, (top + bottom) / 2
    ones = np.ones(len(boxes))
    sides = np.stack([[left, right, x, x], [y, y, top, bottom], [ones, ones, ones, ones]])
    (start, end, _, _), (_, _, upper, lower), _ = np.einsum("ij,jke->ike", line.to_picture, sides)
    return np.stack([start, upper, end, lower], axis=1)
