"""Straight lines that are no strokes: the frame of a box, combs, rules, underlines."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.preprocess.pictures import Pixels

SHORTEST = 0.55
"""Length of a line, as a share of the picture's side; shorter ones are strokes or remains."""

PIECE = 0.3
"""Length of a straight piece, as a share of the picture's side, that may belong to a line."""

DASH = 0.1
"""Largest gap in a line, as a share of the picture's side."""

DASHES = 5
"""Pieces of ink, fewer than which make no dashed line."""

BORDER = 0.36
"""Share of the picture's side, from the border, within which lies the line of a frame."""

NEAR, LONG = 0.17, 0.8
"""Shares of the picture's side: a line nearer to the border than the one, or longer than the other,
is no stroke of a digit in a frame."""

JOINT = 4
"""Pixels between the end of a line and the line that it meets."""

THICKEST = 0.12
"""Width of a line, as a share of the picture's shorter side."""

STEEPEST = 0.15
"""Slope of a line: 8.5°."""

CROOKED = 0.9
"""Largest mean deviation of a line from a straight one, in pixels."""


class Line(NamedTuple):
    """A line along one axis of a picture; its coordinates are those of the transposed picture if it
    is vertical.
    """

    vertical: bool
    start: float  # the row of its upper edge in the first column
    slope: float  # rows per column
    width: float  # in pixels
    first: int  # column
    last: int  # one past the last column
    side: int  # −1: near the top or left border; 1: near the other one; 0: across the picture
    through: bool  # from border to border
    near: bool  # near the border
    long: bool

    @property
    def under(self) -> bool:
        """Whether it may be an underline."""
        return self.side > 0 and not self.vertical

    @property
    def alone(self) -> bool:
        """Whether it is no digit even if there is nothing else on the picture."""
        return self.long and (self.near or not self.vertical)

    def rows(self, columns: np.ndarray) -> np.ndarray:
        """Return the row of the upper edge in each column."""
        return self.start + self.slope * columns


def make_a_frame(lines: list[Line]) -> bool:
    """Return True if lines run along three sides of a box."""
    return len({(line.vertical, line.side) for line in lines if line.side}) > 2


def certain(lines: list[Line]) -> list[Line]:
    """Return the lines that are no strokes of a digit between them: long, or the outermost ones, or
    from one long line to another, as between two cells.
    """
    inwards = sorted(lines, key=lambda line: -line.side * line.start)
    outermost = {(line.vertical, line.side): line for line in reversed(inwards) if line.near}
    return [
        line
        for line in lines
        if line is outermost.get((line.vertical, line.side))
        or (line.long and (line.side or not line.vertical))
        or _parts_cells(line, lines)
    ]


def _parts_cells(line: Line, lines: list[Line]) -> bool:
    """Return True if a line runs from one long line to another one."""
    starts = [other.start for other in lines if other.long and other.vertical != line.vertical]
    if len(starts) < 2:
        return False
    return line.first <= min(starts) + JOINT and line.last >= max(starts) - JOINT


def find(ink: Pixels) -> list[Line]:
    """Find the lines in a mask of ink, uint8 (h, w), 1 where there is ink; solid ones first."""
    found: list[Line] = []
    rest = ink
    for dash in (0.0, DASH):
        for vertical in (False, True):
            turned = np.ascontiguousarray(rest.T) if vertical else rest
            found += _along(turned, dash=dash, vertical=vertical)
        if make_a_frame(found):
            break
        if found and not dash:
            rest = remove(ink, [line._replace(side=0) for line in found], crossing=False)
        if cv2.connectedComponents(rest, ltype=cv2.CV_32S)[0] <= DASHES:
            break
    return [line for line in found if line.side or line.through or _parts_cells(line, found)]


def _along(ink: Pixels, *, dash: float, vertical: bool) -> list[Line]:
    """Find lines that run along the rows, with gaps of up to a share of the picture's side."""
    height, width = ink.shape
    piece = max(9, round(PIECE * width) | 1)
    # A line that is tilted climbs from row to row: look at three rows at once.
    straight = cv2.dilate(ink, np.ones((3, 1), np.uint8))
    if dash:
        gap = np.ones((1, round(dash * width) | 1), np.uint8)
        straight = cv2.morphologyEx(straight, cv2.MORPH_CLOSE, gap)
    straight = cv2.erode(straight, np.ones((1, piece), np.uint8))
    if not cv2.countNonZero(straight):
        return []
    straight = cv2.dilate(straight, np.ones((3, piece), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(straight, connectivity=8)
    lines = []
    for number in range(1, count):
        left, top, across, down, _ = stats[number].tolist()
        if across < SHORTEST * width or down > STEEPEST * across + 2 * THICKEST * height:
            continue
        inside = labels[top : top + down, left : left + across] == number
        part = ink[top : top + down, left : left + across] & inside
        lines += _fit(part, left=left, top=top, size=(height, width), vertical=vertical)
    return lines


def _fit(part: Pixels, *, left: int, top: int, size: tuple[int, int], vertical: bool) -> list[Line]:
    """Fit a straight line to the outer edge of a part of the ink, where no stroke touches it."""
    height, width = size
    columns = np.flatnonzero(part.any(axis=0))
    if len(columns) < 0.4 * part.shape[1]:
        return []
    part = part[:, columns]
    upper = part.argmax(axis=0)
    lower = part.shape[0] - 1 - part[::-1].argmax(axis=0)
    middle = top + float(upper.mean() + lower.mean()) / 2
    outer = lower if middle > height / 2 else upper
    points = np.stack([columns, outer], axis=1).astype(np.float32)
    # Huber's distance: strokes that touch the line count less.
    across, down, x, y = cv2.fitLine(points, cv2.DIST_HUBER, 0, 0.01, 0.01).ravel().tolist()
    slope = down / across if across else math.inf
    if abs(slope) > STEEPEST:
        return []
    start = y - slope * x
    off = np.abs(outer - (start + slope * columns))
    good = off <= CROOKED + 0.6
    if good.mean() < 0.75 or float(off[good].mean()) > CROOKED:
        return []
    thickness = float(np.median((lower - upper)[good])) + 1
    if thickness > max(2, THICKEST * min(size)):
        return []
    through = bool(left <= 0.04 * width and left + columns[-1] + 1 >= 0.96 * width)
    near_top, near_bottom = middle < BORDER * height, middle > (1 - BORDER) * height
    side = -1 if near_top else 1 if near_bottom else 0
    if outer is lower:
        start -= thickness - 1
    first, last = left + int(columns[0]), left + int(columns[-1]) + 1
    near = min(middle, height - middle) < NEAR * height
    long = last - first > LONG * width
    at = top + start - slope * left
    return [Line(vertical, at, slope, thickness, first, last, side, through, near, long)]


def remove(strength: Pixels, lines: list[Line], *, crossing: bool = True) -> Pixels:
    """Remove lines, and what lies beyond those of a frame; strokes that cross a line may remain."""
    rest = strength.copy()
    for line in sorted(lines, key=lambda line: line.vertical):
        _erase(rest.T if line.vertical else rest, line, crossing=crossing)
    return rest


def _erase(strength: Pixels, line: Line, *, crossing: bool) -> None:
    """Erase a line that runs along the rows, in place."""
    height, width = strength.shape
    columns = np.arange(width)
    edge = line.rows(columns)
    above = np.floor(edge - 0.7).astype(np.intp)  # the first and the last row of the line
    below = np.ceil(edge + line.width - 0.3).astype(np.intp)
    rows = np.arange(height)[:, None]
    on = (rows >= above) & (rows <= below)
    if line.side < 0 and line.through:
        on |= rows < above
    elif line.side > 0 and line.through:
        on |= rows > below
    elif crossing and not line.side:
        # What continues on both sides of the line crosses it.
        up = strength[np.clip(above - 1, 0, height - 1), columns] > 100
        down = strength[np.clip(below + 1, 0, height - 1), columns] > 100
        both = (up & down).astype(np.uint8)[None]
        on &= cv2.dilate(both, np.ones((1, 3), np.uint8))[0] == 0
    strength[on] = 0
