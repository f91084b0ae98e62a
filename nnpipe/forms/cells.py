"""Printed lines → the cells that they enclose, and what is written in these.

A cell is paper that lines enclose: a rectangle, whatever is written in it.
"""

import cv2
import numpy as np

from nnpipe.forms.lines import THICK, Cell, Lines, pixels
from nnpipe.preprocess.pictures import Pixels

DIGIT = 2.5
"""Least sides of a box for one digit, in millimetres."""

LINE = 0.3
"""Width of what hides a cell's border: half a line and its blur, in millimetres."""

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


def find_ink(page: Pixels) -> Pixels:
    """Return where a page is darker than the paper around, as 0 and 255."""
    page = cv2.GaussianBlur(page, (5, 5), 0)
    paper = cv2.morphologyEx(page, cv2.MORPH_CLOSE, np.ones((pixels(5), pixels(5)), np.uint8))
    darker = cv2.subtract(paper, page)
    return (darker > np.maximum(paper * CONTRAST, FAINT)).view(np.uint8) * 255


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
