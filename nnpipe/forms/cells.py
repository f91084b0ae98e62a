"""A page → its printed lines, the cells that they enclose, and what is written in these.

Lines are long straight ink along an axis. A cell is paper that lines enclose: a rectangle, whatever
is written in it.
"""

from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.preprocess.pictures import Pixels

PER_MM = 8
"""Pixels per millimetre at which lines are looked for."""

DIGIT, SHORTEST = 2.5, 4.0
"""Least sides of a box for one digit, and length of a level line, in millimetres."""

STROKE = 8.0
"""Length of an upright line, in millimetres, from which it is no stroke of a digit."""

THICK = 1.3
"""Width of a line, in millimetres; what is thicker is a dark area."""

LINE = 0.4
"""Width of what hides a cell's border: half a line and its blur, in millimetres."""

RUN, GAP, SHORT = 1.6, 1.5, 1.0
"""Lengths, in millimetres: of a straight piece of a line, of a gap in it, and of a tick."""

HIGHEST, WIDEST, STEEPEST = 20.0, 60.0, 12
"""Largest height and width of a cell, in millimetres, and its tilt, in degrees."""

FULL, HOLLOW = 0.85, 0.4
"""Shares of its rectangle that a cell fills, with and without what is written in it."""

CONTRAST, FAINT = 0.1, 10
"""How much darker than paper ink is: as a share of the paper's level, and in levels."""

DUST, DASH, BORDER = 0.5, 1.5, 0.4
"""Sides of the largest speck of dust, height of the largest dash, and space along the border of a
cell that is not looked at, in millimetres."""

REST, LETTERS, PAPER = 0.2, 8, 0.8
"""Width of the rest of a line, in heights of the cell; most marks of a number; and how light a cell
is at least, relative to the paper around."""

MOST_CELLS = 2000
"""Cells that are looked at."""


class Cell(NamedTuple):
    """A rectangle, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Its width."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Its height."""
        return self.bottom - self.top


class Lines(NamedTuple):
    """The printed lines of a page, as 0 and 255."""

    level: Pixels
    upright: Pixels  # short ones run from one level line to another
    ticks: list[Cell]  # short upright lines that only stand on a level one, without their width
    slope: float  # of most level lines, in pixels per pixel


def pixels(mm: float) -> int:
    """Return a length in pixels."""
    return round(mm * PER_MM)


def find_ink(page: Pixels) -> Pixels:
    """Return where a page is darker than the paper around, as 0 and 255."""
    page = cv2.GaussianBlur(page, (5, 5), 0)
    paper = cv2.morphologyEx(page, cv2.MORPH_CLOSE, np.ones((pixels(5), pixels(5)), np.uint8))
    darker = cv2.subtract(paper, page)
    return (darker > np.maximum(paper * CONTRAST, FAINT)).view(np.uint8) * 255


def find_lines(ink: Pixels) -> Lines:
    """Find the printed lines of a page.

    Args:
        ink: what `find_ink` returns.
    """
    level = _straight(ink, least=pixels(SHORTEST))
    upright = _straight(ink.T, least=pixels(SHORT)).T
    near = cv2.dilate(level, np.ones((pixels(1.5), pixels(0.5)), np.uint8))
    kept, ticks = np.zeros_like(upright), []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(upright))
    for number in range(1, count):
        left, top, width, height, _ = stats[number].tolist()
        part = labels[top : top + height, left : left + width] == number
        around = near[top : top + height, left : left + width][part.any(axis=1)]
        upper, lower = around[: pixels(0.5)].any(), around[-pixels(0.5) :].any()
        if (upper and lower) or height > pixels(STROKE):
            kept[top : top + height, left : left + width][part] = 255
        elif lower and width <= pixels(THICK):
            middle = left + width / 2
            ticks.append(Cell(middle, top, middle, top + height))
    return Lines(level, kept, ticks, _slope(level))


def _slope(level: Pixels) -> float:
    """Return the slope of most level lines, the longer ones counting more."""
    slopes: list[float] = []
    for line in cv2.findContours(level, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        across, down, *_ = cv2.fitLine(line, cv2.DIST_L2, 0, 0.01, 0.01).ravel().tolist()
        if across:
            slopes += [down / across] * (len(line) // pixels(STROKE))
    return float(np.median(slopes)) if slopes else 0.0


def _straight(ink: Pixels, *, least: int) -> Pixels:
    """Return the level lines of ``least`` pixels and more, which may be tilted by some degrees."""
    run = np.ones((1, pixels(RUN) if least > pixels(RUN) else least), np.uint8)
    thick = cv2.dilate(np.ascontiguousarray(ink), np.ones((3, 1), np.uint8))
    lines = cv2.bitwise_and(cv2.morphologyEx(thick, cv2.MORPH_OPEN, run), thick)
    joined = cv2.morphologyEx(lines, cv2.MORPH_CLOSE, np.ones((1, pixels(GAP)), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    long = stats[:, cv2.CC_STAT_WIDTH] >= least
    long[0] = False
    return long[labels].view(np.uint8) * 255


def find_cells(ink: Pixels, lines: Lines) -> list[Cell]:
    """Return the rectangles that lines and dark areas enclose."""
    dark = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((pixels(THICK), pixels(THICK)), np.uint8))
    # Lines are made longer, so that they meet.
    longer = np.ones((1, pixels(1)), np.uint8)
    walls = dark | cv2.dilate(lines.level, longer) | cv2.dilate(lines.upright, longer.T)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(255 - walls, connectivity=4)
    cells: list[Cell] = []
    bottom, right = ink.shape
    for number in range(1, len(stats)):
        left, top, width, height, area = stats[number].tolist()
        if len(cells) == MOST_CELLS:
            break
        if min(left, top) <= 0 or left + width >= right or top + height >= bottom:
            continue  # the edge of the page is no line
        if not (pixels(DIGIT) <= height <= 1.3 * pixels(HIGHEST)) or width < pixels(DIGIT):
            continue
        if width > 1.3 * pixels(WIDEST) or area < HOLLOW * width * height:
            continue
        part = (labels[top : top + height, left : left + width] == number).view(np.uint8)
        points = cv2.convexHull(cv2.findNonZero(part))
        (x, y), sides, angle = cv2.minAreaRect(points)
        angle = (angle + 45) % 90 - 45
        wide, high = sides if (sides[0] > sides[1]) == (width > height) else sides[::-1]
        if (
            abs(angle) < STEEPEST
            and cv2.contourArea(points) >= FULL * wide * high
            and high <= pixels(HIGHEST)
        ):
            half = np.array([wide, high]) / 2 + pixels(LINE)
            middle = np.array([left + x, top + y])
            cells.append(Cell(*(middle - half).tolist(), *(middle + half).tolist()))
    return cells


def height_of_marks(cell: Cell, *, page: Pixels, ink: Pixels) -> float:
    """Return the height of the largest mark in a cell, in heights of the cell.

    It is 1 if the cell is blank, and 0 if it holds a text or is no paper.
    """
    left, top, right, bottom = (round(side) for side in cell)
    inset = pixels(BORDER)
    place = np.s_[max(top, 0) + inset : bottom - inset, max(left, 0) + inset : right - inset]
    far = pixels(HIGHEST)
    around = page[max(top - far, 0) : bottom + far, max(left - far, 0) : right + far]
    if not page[place].size or np.percentile(page[place], 80) < PAPER * np.percentile(around, 90):
        return 0.0
    inside = np.ascontiguousarray(ink[place])
    *_, stats, _ = cv2.connectedComponentsWithStats(inside)
    left, top, wide, tall, area = stats[1:].T
    at_side = (left == 0) | (top == 0) | (left + wide == inside.shape[1])
    at_side |= top + tall == inside.shape[0]
    line = at_side & (np.minimum(wide, tall) < REST * cell.height)
    dash = (wide > 2 * tall) & (tall < pixels(DASH))
    marks = tall[(area > pixels(DUST) ** 2) & ~dash & ~line]
    if len(marks) > LETTERS:
        return 0.0
    return float(marks.max()) / cell.height if len(marks) else 1.0
