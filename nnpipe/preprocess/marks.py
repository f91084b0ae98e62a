"""Connected marks of ink, and the choice of those that make up the digit."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.mnist_like import FAINTEST
from nnpipe.preprocess.pictures import Pixels

REACH = 0.05
"""Share of a mark's size. Ink closer than twice this belongs to the mark, as pens skip."""

SPECK, IN_A_FRAME = 0.03, 0.08
"""Shares of the picture below which a mark is dust, in any picture and in a frame."""

BORDER = 0.01
"""Share of the picture within which a mark touches the border."""

MANY = 5
"""Marks beside the digit. More of them make a text, a pattern or noise."""

DUST = 0.001
"""Share of the picture's area below which a mark is dust if there are many."""

TAIL = 0.25
"""Share of a digit's height: a stroke from the border to the digit is at least this long, and not
higher."""

INNER = 0.3
"""Size of a digit in a frame of any shape, as a share of the frame's."""

PIECE = 0.4
"""Share of a digit's height: the greatest width of what may be a piece of its neighbour."""

REMAINS = 0.17
"""Share of the picture's side, from the border, within which remains of a frame lie."""

WINDING = 7
"""Longest outline that a digit may have, as a multiple of its width plus its height; even 5 is
rare."""

CROWDED = "like a text, a pattern or noise; expected one digit"
SEVERAL = "several marks; expected one digit"
SPECKS = "blank: there are only specks"
NOTHING = "blank: nothing stands out from the paper"


class Mark(NamedTuple):
    """A connected piece of ink, with its bounding box."""

    label: int
    mass: float
    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.top + self.height

    @property
    def is_bar(self) -> bool:
        """Whether the mark is flatter than any digit: the detached bar of a 5, an underline."""
        return self.width > 2 * self.height

    def gap(self, other: "Mark") -> int:
        """Return the distance of both boxes, along the axis on which they are further apart."""
        down = max(self.top - other.bottom, other.top - self.bottom)
        across = max(self.left - other.right, other.left - self.right)
        return max(down, across, 0)

    def is_like(self, other: "Mark") -> bool:
        """Return True if the mark stands beside another one like a second digit."""
        common = min(self.bottom, other.bottom) - max(self.top, other.top)
        beside = self.left >= other.right or other.left >= self.right
        return (
            beside
            and common > 0.7 * max(self.height, other.height)
            and self.mass > 0.1 * other.mass
        )

    def encloses(self, other: "Mark") -> bool:
        """Return True if another mark lies within this one like a digit in a frame."""
        inside = self.left < other.left and other.right < self.right
        inside &= self.top < other.top and other.bottom < self.bottom
        return inside and other.size > INNER * self.size and other.mass > 0.1 * self.mass

    def at_border(self, shape: tuple[int, int], margin: int) -> bool:
        """Return True if the mark touches the border of a picture of this shape."""
        nearest = min(self.left, self.top, shape[1] - self.right, shape[0] - self.bottom)
        return nearest <= margin

    def is_remains(self, shape: tuple[int, int]) -> bool:
        """Return True if the mark is so near the border that it may be the remains of a frame."""
        (h, w), band = shape, REMAINS
        across = self.right <= band * w or self.left >= (1 - band) * w
        return across or self.bottom <= band * h or self.top >= (1 - band) * h


class Choice(NamedTuple):
    """The ink of the digit alone."""

    strength: Pixels
    refusal: str = ""  # why it is not one digit; empty if it may be one
    main: Mark | None = None  # the heaviest mark; of specks only if it outweighs all others
    edge: bool = False  # whether other marks lie near the border


def choose(
    strength: Pixels, *, border: bool, remains: bool = False, reach: float = REACH
) -> Choice:
    """Choose the heaviest mark and the small ones that belong to it.

    A second mark of half its size makes two digits, unless it is a bar. If the heaviest mark is not
    at the border, a mark there does not count: it is the edge of the sheet, or is cut off.

    Args:
        strength: of the ink, uint8 (h, w).
        border: marks at the border belong to a digit that is there as well, as on a picture that
            was cut to its ink. Otherwise they belong to something else, and weigh less when the
            heaviest mark is chosen.
        remains: small marks near the border are the remains of a frame.
        reach: share of a mark's size. Ink closer than twice this belongs to the mark.
    """
    shape = strength.shape
    mask = (strength > FAINTEST).view(np.uint8)
    margin = round(BORDER * max(shape)) + (2 if remains else 0)

    def weight(mark: Mark) -> float:
        return mark.mass * (1 if border or not mark.at_border(shape, margin) else 0.2)

    labels, marks = _join(mask, strength, weight=weight, reach=reach)
    belongs = np.zeros(len(marks) + 1, np.uint8)  # to the digit, by label
    if remains:
        marks = [mark for mark in marks if not mark.is_remains(shape)]
    if not marks:
        return Choice(np.zeros_like(strength), NOTHING)
    main = max(marks, key=weight)
    if main.size < (IN_A_FRAME if remains else SPECK) * max(shape):
        only = main.mass > 0.5 * sum(mark.mass for mark in marks)
        return Choice(np.zeros_like(strength), SPECKS, main if only else None)
    belongs[main.label] = 1
    main_at_border = main.at_border(shape, margin)
    central = main.left > margin and main.right < shape[1] - margin
    others, edge = 0, False  # marks beside the digit that are not specks
    refusal = ""
    for mark in marks:
        if mark is main:
            continue
        at_border = mark.at_border(shape, margin)
        edge |= at_border or mark.is_remains(shape)
        if mark.mass > 0.05 * main.mass and (main_at_border or not at_border):
            others += 1
        at_side = mark.left <= margin or mark.right >= shape[1] - margin
        piece = not border and central and at_side and mark.width < PIECE * main.height
        whole = at_side and not border and not remains and mark.height > 0.5 * main.height
        if (mark.is_like(main) or whole) and not piece:
            refusal = SEVERAL
        if at_border and not (border and main_at_border):
            continue
        large = mark.size > 0.5 * main.size
        if large and mark.is_bar and mark.top > main.top and mark.gap(main) > 0.15 * main.size:
            continue  # the digit is underlined
        if large and not mark.is_bar and mark.mass > 0.2 * main.mass:
            refusal = SEVERAL
        elif mark.mass > 0.01 * main.mass and mark.gap(main) < 0.2 * main.size:
            belongs[mark.label] = 1
    digit = belongs[labels]
    if others > MANY or outline(digit) > WINDING * (main.width + main.height):
        refusal = CROWDED
    return Choice(strength * digit, refusal, main, edge)


def tail(choice: Choice) -> npt.NDArray[np.bool_] | None:
    """Return the columns, (1, w), of a stroke that runs from a side of the picture to the digit.

    Returns:
        None if there is no such stroke: the digit must touch the left or the right side only, and
        the stroke be flat, and as long as a part of the digit.
    """
    main, strength = choice.main, choice.strength
    height, width = strength.shape
    if main is None or main.top <= 1 or main.bottom >= height - 1:
        return None
    at_left, at_right = main.left <= 1, main.right >= width - 1
    if at_left == at_right:
        return None
    ink = strength[main.top : main.bottom, main.left : main.right] > FAINTEST
    extent = ink.shape[0] - ink.argmax(axis=0) - ink[::-1].argmax(axis=0)
    flat = (extent < TAIL * main.height) | ~ink.any(axis=0)
    length = int((flat if at_left else flat[::-1]).argmin())
    if not TAIL * main.height < length < main.width:
        return None
    columns = np.zeros((1, width), np.bool_)
    columns[0, : main.left + length] = at_left
    columns[0, main.right - length :] |= at_right
    return columns


def inside(strength: Pixels) -> Pixels | None:
    """Return the ink without a closed frame of any shape around a digit; None if there is none."""
    mask = (strength > FAINTEST).view(np.uint8)
    labels, marks = measure(mask, strength)
    outer = max(marks, key=lambda mark: mark.size, default=None)
    inner = [mark for mark in marks if outer and outer.encloses(mark)]
    if not outer or not inner:
        return None
    frame = labels == outer.label
    _, regions = cv2.connectedComponents((~frame).view(np.uint8), connectivity=4)
    ways_out = {int(region) for edge in (regions[0], regions[-1]) for region in np.unique(edge)}
    largest = max(inner, key=lambda mark: mark.mass)
    if int(regions[labels == largest.label][0]) in ways_out:
        return None  # it is not closed
    return strength * ~frame


def without_dust(strength: Pixels) -> Pixels:
    """Remove marks of a few pixels if there are many: dust, or the noise of a bad scan."""
    mask = (strength > FAINTEST).view(np.uint8)
    if cv2.connectedComponents(mask, ltype=cv2.CV_16U)[0] <= 2 * MANY:
        return strength
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, ltype=cv2.CV_16U)
    dust = stats[:, cv2.CC_STAT_AREA] < DUST * strength.size
    if np.count_nonzero(dust) <= 2 * MANY or dust[1:].all():
        return strength
    return strength * ~dust[labels]


def gap_between_two(digit: Pixels) -> float | None:
    """Return how far two parts of ink are apart that stand like two digits beside each other.

    Each is nearly as high as both, and has its share of the ink; and in every row that both reach,
    one lies to the right of the other.

    Returns:
        The smallest gap in such a row, as a share of their height; None if the ink is one digit.
    """
    mask = (digit > 127).view(np.uint8)
    if cv2.connectedComponents(mask, ltype=cv2.CV_16U)[0] < 3:
        return None
    labels, parts = measure(mask, digit)
    first, second = sorted(parts, key=lambda mark: -mark.mass)[:2]
    if second.mass < 0.12 * sum(mark.mass for mark in parts):
        return None
    a, b = labels == first.label, labels == second.label
    return _gap(a, b)


def _gap(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float | None:
    """Return the smallest gap in a row of two parts, if one is always to the right of the other."""
    in_a, in_b = a.any(axis=1), b.any(axis=1)
    height, *heights = (np.ptp(np.flatnonzero(rows)) + 1 for rows in (in_a | in_b, in_a, in_b))
    if min(heights) < 0.6 * height:
        return None
    both = in_a & in_b
    a, b = a[both], b[both]
    if a.argmax(axis=1).mean() > b.argmax(axis=1).mean():
        a, b = b, a
    last, first = a.shape[1] - 1 - a[:, ::-1].argmax(axis=1), b.argmax(axis=1)
    gap = (first - last).min(initial=height)
    return float(gap / height) if gap > 0 else None


def _join(
    mask: Pixels, strength: Pixels, *, weight: Callable[[Mark], float], reach: float
) -> tuple[npt.NDArray[np.uint16], list[Mark]]:
    """Join pieces of ink that are close, compared with the size of the heaviest mark.

    Returns:
        The label of each pixel, 0 where there is no ink, and the marks.
    """
    # Digits in a row are as high as all ink, so most marks are joined at once.
    likely = round(reach * 0.8 * cv2.boundingRect(mask)[3])
    pixels, new_pixels = -1, max(likely, 1) if reach else 0
    while new_pixels > pixels:  # a larger mark reaches further
        pixels = new_pixels
        labels, marks = measure(mask, strength, reach=pixels)
        if marks:
            new_pixels = round(reach * max(marks, key=weight).size)
    return labels, marks


def measure(
    mask: Pixels, strength: Pixels, *, reach: int = 0
) -> tuple[npt.NDArray[np.uint16], list[Mark]]:
    """Label the ink in a mask of 0 and 1, and measure its marks, largest distance 2 × ``reach``."""
    height, width = mask.shape
    wide = cv2.copyMakeBorder(mask, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    wide = cv2.dilate(wide, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(wide, ltype=cv2.CV_16U)
    inner = labels[reach : reach + height, reach : reach + width] * mask
    if count == 2:
        mass = [0.0, cv2.sumElems(strength)[0]]
    else:
        mass = np.bincount(inner.ravel(), strength.ravel(), count).tolist()
    marks = [
        Mark(number, mass[number], left, top, across - 2 * reach, down - 2 * reach)
        for number, (left, top, across, down, _) in enumerate(stats.tolist())
    ]
    return inner, marks[1:]


def outline(mask: Pixels) -> int:
    """Return the length of the outline of a mask of 0 and 1, in sides of a pixel."""
    across, down = cv2.absdiff(mask[:, 1:], mask[:, :-1]), cv2.absdiff(mask[1:], mask[:-1])
    edges = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    return int(cv2.sumElems(across)[0] + cv2.sumElems(down)[0]) + sum(int(e.sum()) for e in edges)
