"""Connected marks of ink, and which of them are the digit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.paper import running
from nnpipe.preprocess.pictures import Grey

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.intp]

FAINTEST = 50
"""The least strength, of 255, of what counts as ink."""

REACH = 0.05
"""Ink closer than twice this share of a mark's size belongs to it: pens skip and scans break."""

SPECK = 0.03
"""A mark smaller than this share of the picture is dust."""

BORDER = 0.01
"""What is nearer to the border than this share of the picture touches it."""

MANY = 5
"""With more marks than this it is a text, a pattern or noise."""


WINDING = 12
"""A digit's outline is at most this many times as long as the digit is large, and seldom 9."""


class Mark(NamedTuple):
    """A connected piece of ink, and the box around it."""

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
        """Whether it is flatter than any digit: the detached hat of a 5, an underline."""
        return self.right - self.left > 2 * (self.bottom - self.top)

    def gap(self, other: "Mark") -> int:
        """Distance of both boxes, along the axis on which they are further apart."""
        down = max(self.top - other.bottom, other.top - self.bottom)
        across = max(self.left - other.right, other.left - self.right)
        return max(down, across, 0)


class Choice(NamedTuple):
    """The ink of the digit alone."""

    strength: Grey
    refusal: str  # why it is not one digit; empty if it may be one


def choose(strength: Grey, drawing: bool) -> Choice:
    """Keep the heaviest mark and the small ones that belong to it.

    A second mark as large as half of it makes two digits, unless it is a bar. What touches the
    border, where the digit does not, is the edge of the sheet or cut off, and makes no second
    digit; on a photo it weighs less, being more often a shadow or a table than the digit.
    """
    height, width = strength.shape
    mask = strength > FAINTEST
    if not mask.any():
        return Choice(np.zeros_like(strength), "blank: nothing stands out from the paper")

    margin = round(BORDER * max(height, width))

    def at_border(mark: Mark) -> bool:
        nearest = min(mark.top, mark.left, height - mark.bottom, width - mark.right)
        return bool(nearest <= margin)

    labels, marks, chosen = _join(
        mask, strength, lambda mark: mark.mass * (0.2 if at_border(mark) and not drawing else 1)
    )
    main = marks[chosen]
    if main.size < SPECK * max(height, width):
        return Choice(np.zeros_like(strength), "blank: there are only specks")

    kept = np.zeros(len(marks) + 1, np.bool_)
    kept[chosen + 1] = True
    more = 0  # marks that are no specks beside the digit
    refusal = ""
    for number, mark in enumerate(marks, start=1):
        if number == chosen + 1:
            continue
        if mark.mass > 0.05 * main.mass and (at_border(main) or not at_border(mark)):
            more += 1
        if at_border(mark) and not (drawing and at_border(main)):
            continue
        large = mark.size > 0.5 * main.size
        if large and mark.is_bar and mark.top > main.top and mark.gap(main) > 0.15 * main.size:
            continue  # the digit is underlined
        if large and not mark.is_bar and mark.mass > 0.2 * main.mass:
            refusal = "several marks; expected one digit"
        elif mark.mass > 0.01 * main.mass and mark.gap(main) < 0.2 * main.size:
            kept[number] = True
    digit = kept[labels]
    touching = np.array([e.sum() for e in (digit[0], digit[-1], digit[:, 0], digit[:, -1])])
    # Not so a digit that was cut out to its very edges: it touches them all, and leaves much paper.
    leans = touching.max() > 0.5 * main.size and (touching > 0).sum() < 3
    fills = digit.sum() > 0.5 * digit.size
    if not drawing and (leans or fills):
        refusal = "cut off by the border, or no digit; leave some paper around it"
    if more > MANY or outline(digit) > WINDING * main.size:
        refusal = "like a text, a pattern or noise; expected one digit"
    return Choice(np.where(digit, strength, np.float32(0)), refusal)


def _join(
    mask: Mask, strength: Grey, weight: Callable[[Mark], float]
) -> tuple[Labels, list[Mark], int]:
    """Join what is near each other, in the measure of the heaviest mark, into marks.

    Returns:
        Labels as `label` gives them, the mark of each, and the place of the heaviest in the list.
    """
    reach, wider = 0, 1
    while wider > reach:  # a mark that has grown reaches further
        reach = wider
        bridged = running(np.pad(mask, reach), 2 * reach + 1, np.maximum).astype(np.bool_)
        labels = np.where(mask, label(bridged), 0)
        marks = measure(labels, strength)
        heaviest = int(np.argmax([weight(mark) for mark in marks]))
        wider = round(REACH * marks[heaviest].size)
    return labels, marks, heaviest


def outline(mask: Mask) -> int:
    """The length of the border between a mask and what is around it, in steps of a pixel."""
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edges = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    return sum(int(np.count_nonzero(part)) for part in (across, down, *edges))


def label(mask: Mask) -> Labels:
    """Number the connected parts of a mask (8 neighbours) from 1; 0 is background.

    Each row is cut into runs of set pixels. Runs that touch are joined by pointing the larger root
    to the smaller, all at once, until none is left. This takes a hundredth of the time that
    importing SciPy for it would.
    """
    span = mask.shape[1] + 2
    change = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    row, start = _places(change == 1)
    stop = _places(change == -1)[1]  # one past the last pixel
    # A run touches those in the row above it that begin before it has ended, corners included,
    # and end after it has begun.
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
    """Rows and columns of what is set, as `np.nonzero` gives them, in a fraction of its time."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def measure(labels: Labels, strength: Grey) -> list[Mark]:
    """Mass and extent of every label but 0."""
    y, x = _places(labels != 0)
    number = labels[y, x] - 1
    count = int(number.max()) + 1
    mass = np.bincount(number, strength[y, x], count)

    def furthest(extreme: np.ufunc, places: npt.NDArray[np.intp], start: int) -> list[int]:
        result = np.full(count, start)
        extreme.at(result, number, places)
        return [int(place) for place in result]

    top, left = (furthest(np.minimum, places, max(labels.shape)) for places in (y, x))
    bottom, right = (furthest(np.maximum, places + 1, 0) for places in (y, x))
    return [Mark(*fields) for fields in zip(mass.tolist(), top, bottom, left, right, strict=True)]
