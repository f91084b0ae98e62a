"""A line of ink → parts, by the cuts that may lie between two digits.

A cut is a path from the upper to the lower edge of the line that crosses as little ink as it can.
It may lean by up to 45°, so that it also parts slanted digits and those that reach over each other.
Such paths are minimal seams (Avidan & Shamir 2007, "Seam Carving for Content-Aware Image Resizing",
section 3). There are more cuts than digits: `search` decides which of them count.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.numbers.line import Line
from nnpipe.preprocess.drawing import stroke_width
from nnpipe.preprocess.pictures import Pixels

SIDEWAYS = 0.02
"""Cost of a step to the side, as a share of a pixel full of ink."""

THICKEST = 2.6
"""Ink that a cut may cross, in widths of the pen."""

APART = 0.14
"""Least distance between two cuts, in heights of the digits."""

LEAST = 3
"""Mass of a part, in pixels full of ink; less is dust."""

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


class Cuts(NamedTuple):
    """A line in n parts."""

    parts: Ints  # (h, w): the number of the part to which a pixel belongs
    crossed: Array  # (n + 1,): ink that the cut before each part and after it crosses, in pens


def cut(line: Line) -> Cuts:
    """Cut a line wherever two digits may meet."""
    ink = line.strength / 255
    height = len(ink)
    middle = int(np.clip((line.top + line.bottom) / 2, 1, height - 2))
    above, up = _cheapest(ink[: middle + 1])
    below, down = _cheapest(ink[middle:][::-1])
    crossed = (above + below - ink[middle]) / max(1.0, stroke_width(line.strength))
    columns = _lowest(crossed, round(APART * line.height / 2))
    seams = np.empty((height, len(columns)), np.intp)  # the column of each cut in each row
    seams[middle] = columns
    for steps, order in ((up, range(middle - 1, -1, -1)), (down, range(middle + 1, height))):
        x = columns
        for row, step in zip(order, steps[::-1], strict=True):
            x = x + step[x]
            seams[row] = x
    return _in_parts(line.strength, seams, crossed=crossed[columns])


def _cheapest(ink: Array) -> tuple[Array, list[npt.NDArray[np.int8]]]:
    """Find the cheapest path from the first row to each pixel of the last one.

    The cost C of a path obeys C(y, x) = ink(y, x) + min over d in −1, 0, 1 of
    C(y − 1, x + d) + |d| `SIDEWAYS`.

    Returns:
        The costs (w,), and for each row but the first the step d from it to the row before.
    """
    total, steps = ink[0], []
    wide = np.full(ink.shape[1] + 2, np.inf)
    for row in ink[1:]:
        wide[1:-1] = total
        left, right = wide[:-2] + SIDEWAYS, wide[2:] + SIDEWAYS
        sideways = np.minimum(left, right)
        aside = sideways < total
        steps.append(np.where(aside, np.where(left <= right, -1, 1), 0).astype(np.int8))
        total = np.where(aside, sideways, total) + row
    return total, steps


def _lowest(crossed: Array, reach: int) -> Ints:
    """Return the columns where a cut crosses less ink than around; of equal ones the middle one."""
    size = 2 * max(reach, 1) + 1
    lowest = cv2.erode(crossed[None], np.ones((1, size), np.uint8)).ravel()
    is_low = (crossed <= lowest + 1e-9) & (crossed <= THICKEST)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], is_low.view(np.int8), [0]])))
    columns: Ints = (ends[::2] + ends[1::2] - 1) // 2
    return columns


def _in_parts(strength: Pixels, seams: Ints, *, crossed: Array) -> Cuts:
    """Number the parts between seams; of the cuts around a part without ink the cheaper stays."""
    height, width = strength.shape
    seams = np.sort(seams, axis=1)  # so that no two of them cross
    starts = np.zeros((height, width + 1), np.intp)
    np.add.at(starts, (np.arange(height)[:, None], seams + 1), 1)
    raw = starts.cumsum(axis=1)[:, :width]
    mass = np.bincount(raw.ravel(), strength.ravel(), len(crossed) + 1)
    inked = mass > LEAST * 255
    number = np.maximum(np.cumsum(inked) - 1, 0)
    between = np.full(max(int(inked.sum()), 1) + 1, np.inf)
    np.minimum.at(between, number[:-1] + (inked.cumsum()[:-1] > 0), crossed)
    between[[0, -1]] = 0
    return Cuts(number[raw], between)
