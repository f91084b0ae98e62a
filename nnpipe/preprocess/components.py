"""Connected marks of ink, and the choice of those that make up the digit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.paper import running
from nnpipe.preprocess.pictures import Grey

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.intp]

FAINTEST = 50
"""Strength, of 255, above which a pixel counts as ink."""

REACH = 0.05
"""Share of a mark's size. Ink closer than twice this belongs to the mark, as pens skip."""

SPECK = 0.03
"""Share of the picture below which a mark is dust."""

BORDER = 0.01
"""Share of the picture within which a mark touches the border."""

MANY = 5
"""Marks beside the digit. More of them make a text, a pattern or noise."""

WINDING = 12
"""Longest outline that a digit may have, as a multiple of its size; even 9 is rare."""


class Mark(NamedTuple):
    """A connected piece of ink, with its bounding box."""

    mass: float
    top: int
    bottom: int  # one past the last row
    left: int
    right: int  # one past the last column

    @property
    def size(self) -> int:
        """The longer side."""
        return max(self.bottom - self.top, self.right - self.left)

    @property
    def is_bar(self) -> bool:
        """Whether the mark is flatter than any digit: the detached bar of a 5, an underline."""
        return self.right - self.left > 2 * (self.bottom - self.top)

    def gap(self, other: "Mark") -> int:
        """Return the distance of both boxes, along the axis on which they are further apart."""
        down = max(self.top - other.bottom, other.top - self.bottom)
        across = max(self.left - other.right, other.left - self.right)
        return max(down, across, 0)


class Choice(NamedTuple):
    """The ink of the digit alone."""

    strength: Grey
    refusal: str  # why it is not one digit; empty if it may be one


def choose(strength: Grey, drawing: bool) -> Choice:
    """Choose the heaviest mark and the small ones that belong to it.

    A second mark of half its size makes two digits, unless it is a bar. If the digit
    is not at the border, a mark there does not count: it is the edge of the sheet, or is cut off.
    On a photo such a mark weighs less, because it is more often a shadow or a table than the digit.
    """
    height, width = strength.shape
    mask = strength > FAINTEST
    if not mask.any():
        return Choice(np.zeros_like(strength), "blank: nothing stands out from the paper")

    margin = round(BORDER * max(height, width))

    def at_border(mark: Mark) -> bool:
        nearest = min(mark.top, mark.left, height - mark.bottom, width - mark.right)
        return bool(nearest <= margin)

    def weight(mark: Mark) -> float:
        return mark.mass * (0.2 if at_border(mark) and not drawing else 1)

    labels, marks, heaviest = _join(mask, strength, weight=weight)
    main = marks[heaviest]
    if main.size < SPECK * max(height, width):
        return Choice(np.zeros_like(strength), "blank: there are only specks")

    belongs = np.arange(len(marks) + 1) == heaviest + 1  # to the digit, by label
    others = 0  # marks beside the digit that are not specks
    refusal = ""
    for number, mark in enumerate(marks, start=1):
        if number == heaviest + 1:
            continue
        if mark.mass > 0.05 * main.mass and (at_border(main) or not at_border(mark)):
            others += 1
        if at_border(mark) and not (drawing and at_border(main)):
            continue
        large = mark.size > 0.5 * main.size
        if large and mark.is_bar and mark.top > main.top and mark.gap(main) > 0.15 * main.size:
            continue  # the digit is underlined
        if large and not mark.is_bar and mark.mass > 0.2 * main.mass:
            refusal = "several marks; expected one digit"
        elif mark.mass > 0.01 * main.mass and mark.gap(main) < 0.2 * main.size:
            belongs[number] = True
    digit = belongs[labels]
    touching = np.array([e.sum() for e in (digit[0], digit[-1], digit[:, 0], digit[:, -1])])
    # A digit cut to its ink touches at least three borders, and leaves much paper free.
    leans = touching.max() > 0.5 * main.size and (touching > 0).sum() < 3
    fills = digit.sum() > 0.5 * digit.size
    if not drawing and (leans or fills):
        refusal = "cut off by the border, or no digit; leave some paper around it"
    if others > MANY or outline(digit) > WINDING * main.size:
        refusal = "like a text, a pattern or noise; expected one digit"
    return Choice(np.where(digit, strength, np.float32(0)), refusal)


def _join(
    mask: Mask, strength: Grey, *, weight: Callable[[Mark], float]
) -> tuple[Labels, list[Mark], int]:
    """Join pieces of ink that are close, compared with the size of the heaviest mark.

    Returns:
        Labels as from `label`, the mark of each, and the index of the heaviest mark.
    """
    reach, new_reach = 0, 1
    while new_reach > reach:  # a larger mark reaches further
        reach = new_reach
        bridged = running(np.pad(mask, reach), 2 * reach + 1, extreme=np.maximum).astype(np.bool_)
        labels = np.where(mask, label(bridged), 0)
        marks = measure(labels, strength)
        heaviest = int(np.argmax([weight(mark) for mark in marks]))
        new_reach = round(REACH * marks[heaviest].size)
    return labels, marks, heaviest


def outline(mask: Mask) -> int:
    """Return the length of the outline of a mask, in sides of a pixel."""
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edges = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    return sum(int(np.count_nonzero(part)) for part in (across, down, *edges))


def label(mask: Mask) -> Labels:
    """Number the connected parts of a mask (8 neighbours) from 1; 0 is background.

    Each row consists of runs of set pixels. Of two runs that touch, the larger root is pointed to
    the smaller one, for all pairs at once, until no pair has different roots. This takes a
    hundredth of the time of importing SciPy.
    """
    span = mask.shape[1] + 2
    change = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    row, start = _places(change == 1)
    stop = _places(change == -1)[1]  # one past the last pixel
    # A run touches the runs in the row above that begin before it ends and end after it begins,
    # corners included.
    first = np.searchsorted(row * span + stop, (row - 1) * span + start, side="left")
    last = np.searchsorted(row * span + start, (row - 1) * span + stop, side="right")
    touching = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(row)), touching)
    upper = np.arange(len(lower)) - np.repeat(np.cumsum(touching) - touching, touching)
    upper += np.repeat(first, touching)
    root = np.arange(len(row))
    while (root[lower] != root[upper]).any():
        a, b = root[lower], root[upper]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root[root] != root).any():
            root = root[root]
    labels = np.zeros(mask.shape, np.intp)
    labels[mask] = np.repeat(np.unique(root, return_inverse=True)[1] + 1, stop - start)
    return labels


def _places(mask: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows and columns of set pixels, like `np.nonzero`, but much faster."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def measure(labels: Labels, strength: Grey) -> list[Mark]:
    """Return the mark of every label but 0."""
    y, x = _places(labels != 0)
    number = labels[y, x] - 1
    count = int(number.max()) + 1
    mass = np.bincount(number, strength[y, x], count)

    def least(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        result = np.full(count, max(labels.shape))
        np.minimum.at(result, number, places)
        return result

    top, left = least(y).tolist(), least(x).tolist()
    bottom, right = (1 - least(-y)).tolist(), (1 - least(-x)).tolist()
    return [Mark(*fields) for fields in zip(mass.tolist(), top, bottom, left, right, strict=True)]
