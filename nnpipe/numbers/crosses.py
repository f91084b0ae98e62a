"""A row of boxes → in how many of them digits are, and the row without what crosses out the others.

Leading boxes are crossed out so that nobody adds a digit.

A cross is ink along both diagonals of its own bounding box. A dash or a diagonal is a straight
stroke that leans as no digit does. Of 20,000 of MNIST's digits, each in a box, two are taken for
one of these, a 2 and a 5; of 600 drawn crosses, 99 % are seen.
"""

from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.numbers.line import CROSSED_OUT, Marks
from nnpipe.preprocess import Pixels, paper
from nnpipe.preprocess.marks import NOTHING
from nnpipe.preprocess.mnist_like import FAINTEST

LEAST = 0.15
"""Size of a mark, as a share of the box's height; less is dust, or what is left of a frame."""

TALL = 0.3
"""Height of a mark that is a digit, or most of one, as a share of the box's."""

OUTER = 0.15
"""Share of a box's side, from its edges, within which flat marks are what is left of its frame."""

STRAIGHT = 0.2
"""Width of a straight stroke, relative to its length; both are standard deviations."""

LEFT, RIGHT = -35, 50
"""Degrees by which a straight stroke leans to the left, or to the right, more than any 1."""

LOW, FLAT, LEVEL, NARROW = 0.3, 1.8, 60, 0.4
"""Of a dash: its height as a share of the box's, and its least width relative to its height; or
degrees from upright, and width relative to its length as in `STRAIGHT`, if it is tilted."""

STEEP, HIGH, WIDE = 20, 0.85, 0.75
"""Degrees from upright, and shares of the box's height and width, of a stroke from corner to corner
that leans as a 1 does: a 1 does not fill its box."""

SIDE, BINS = 24, 8
"""Pixels of the side of a mark that may be a cross, and of how many parts its diagonals are."""

BESIDE, ON, ALONG, FILLED = 0.2, 0.15, 0.86, 7
"""Of a cross: distance from the nearer diagonal, as a share of the side, within which its share
`ALONG` of ink lies; and within which ink lies in `FILLED` parts of each diagonal."""

LONGEST = 2.2
"""Length of the longer side of a cross, relative to the shorter one."""


class Boxes(NamedTuple):
    """A row of boxes."""

    pixels: Pixels  # without what crosses out the leading ones
    digits: int | None = None  # how many boxes hold digits, at the end; None if that is unclear
    note: str = ""


def look(pixels: Pixels, *, cells: int) -> Boxes:
    """Find out which boxes are crossed out, and which hold digits.

    Args:
        pixels: brightness of a row of boxes without its printed lines, uint8 (h, w).
        cells: how many boxes it has; 0 if it only matters whether it is empty.
    """
    strength = paper.ink(pixels, light=True, even=False)
    if strength is None:
        return Boxes(pixels, 0, NOTHING)
    marks, high, wide = Marks.of(strength), pixels.shape[0], pixels.shape[1] / max(cells, 1)
    place = (marks.left + marks.width / 2) / wide
    aside = np.abs(place - np.rint(place)) < OUTER
    off = np.abs(marks.middle / high - 0.5) > 0.5 - OUTER
    slim, flat, tall = (
        marks.width < LEAST * high,
        marks.height < LEAST * high,
        marks.height > TALL * high,
    )
    dust = flat & (slim | off)
    if dust.all():
        return Boxes(pixels, 0, NOTHING)
    gone = dust | (slim & aside)
    cell = np.where(gone, -1, np.floor(place))
    struck, first = np.zeros(len(gone) + 1, np.bool_), 0
    for box in range(cells):
        own = np.append(False, cell == box)
        if not own.any():
            continue
        if not _is_struck(strength * own[marks.labels], high=high, wide=wide):
            break
        struck |= own
        first = box + 1
    used = sorted(set(cell[tall & (cell >= first)].tolist()))
    digits = len(used) if used == list(range(cells - len(used), cells)) else None
    if not first:
        return Boxes(pixels, digits or None)
    # Paper as bright as around each place.
    near = cv2.dilate(struck[marks.labels].view(np.uint8), np.ones((5, 5), np.uint8)) > 0
    blank = paper.closing(pixels, round(high / 2))
    note = f"{first} of {cells} boxes crossed out" if first < cells else CROSSED_OUT
    return Boxes(np.where(near, blank, pixels), digits, note)


def _is_struck(strength: Pixels, *, high: float, wide: float) -> bool:
    """Return True if ink is a cross, a dash or a diagonal, in a box of a size."""
    rows, columns = np.nonzero(strength > FAINTEST)
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    spread, axes = np.linalg.eigh(np.cov(columns, -rows) + 1e-9 * np.eye(2))
    right, up = axes[:, 1] * (np.sign(axes[1, 1]) or 1)
    lean, narrow = np.degrees(np.arctan2(right, up)), np.sqrt(spread[0] / spread[1])
    if height < LOW * high:
        return bool(width > FLAT * height or (abs(lean) > LEVEL and narrow < NARROW))
    if narrow < STRAIGHT:
        across = height > HIGH * high and width > WIDE * wide and abs(lean) > STEEP
        return bool(across or not LEFT <= lean <= RIGHT)
    if max(height, width) > LONGEST * min(height, width):
        return False
    box = strength[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    how = cv2.INTER_AREA if max(height, width) > SIDE else cv2.INTER_LINEAR
    shape = cv2.resize(box, (SIDE, SIDE), interpolation=how) > 127
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    diagonals = np.abs(x - y), np.abs(x + y - 1)
    near = (np.minimum(*diagonals) < BESIDE) & shape
    filled = [len(np.unique((y * BINS).astype(int)[shape & (d < ON)])) for d in diagonals]
    return bool(near.sum() > ALONG * shape.sum() and min(filled) >= FILLED)
