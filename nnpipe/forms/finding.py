"""A page → the fields on it: boxes, rows of boxes, combs, and cells of tables.

Cells side by side that are alike are one field with that many digits, unless they are wide or the
page is ruled like a table: then each is a field. Cells with print are labels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.forms.cells import WIDEST, find_cells, find_ink, height_of_marks
from nnpipe.forms.combs import Comb, find_combs
from nnpipe.forms.lines import PER_MM, Cell, find_lines, pixels, straighten
from nnpipe.preprocess.pictures import Pixels

MOST_PIXELS = 12_000_000
"""Pixels of the largest page in which lines are looked for."""

CELL, NARROW = 5.0, 8.0
"""Least sides of a cell for a number, and width up to which a cell of a grid has one digit, in
millimetres."""

SHARED = 0.2
"""Share of a field that may lie in another one."""

MOST_FIELDS = 1000
"""Fields of the largest form."""

A4 = 210.0, 297.0
"""Size in millimetres of a page that does not say its own."""

MM = 25.4
"""Millimetres per inch."""

SMALLEST_PAGE, LARGEST_PAGE = 50.0, 900.0
"""Sides of a page, in millimetres, that are believed."""

WIDE = 1.3
"""Width of a box, in heights, from which it has room for several digits."""

MOST_DIGITS = 20
"""Digits of the longest row of boxes."""

APART, ALIKE = 3.5, 0.2
"""Gap between boxes side by side, in millimetres; and difference of their sizes, as a share."""

UNEVEN = 1.0
"""How much wider the gap after a number is than the gaps between its boxes, in millimetres."""

SMALL, SMALL_PRINT = 0.3, 0.42
"""Height of the largest mark, in heights of the cell, up to which it is print: in boxes for digits,
and in a single cell."""


class Proposal(NamedTuple):
    """A field that the page seems to have."""

    name: str  # such as "r1c2": its row and its column
    box: tuple[float, float, float, float]  # left, top, width, height, as shares of the page
    digits: str  # such as "3", or "any"


def page_size(width: int, height: int, *, dpi: object) -> tuple[float, float] | None:
    """Return width and height of a page in millimetres; None if its resolution is not believable.

    Args:
        width: in pixels.
        height: in pixels.
        dpi: pixels per inch across and down, as Pillow has them.
    """
    if not isinstance(dpi, tuple) or len(dpi) != 2 or not all(one > 0 for one in dpi):
        return None
    size = float(width / dpi[0] * MM), float(height / dpi[1] * MM)
    return size if min(size) >= SMALLEST_PAGE and max(size) <= LARGEST_PAGE else None


def find_fields(levels: Pixels, *, size: tuple[float, float] | None = None) -> list[Proposal]:
    """Find the fields of a page, row by row.

    Args:
        levels: the page, (h, w), dark ink on light paper; it may be tilted a little.
        size: its width and height in millimetres; by default it is as wide as A4.
    """
    high, wide = levels.shape
    width = size[0] if size else A4[int(wide > high)]
    height = size[1] if size else width * high / wide
    shrink = min(1, (MOST_PIXELS / (width * height)) ** 0.5 / PER_MM)
    shape = (max(1, round(side * PER_MM * shrink)) for side in (width, height))
    how = cv2.INTER_AREA if wide > width * PER_MM else cv2.INTER_CUBIC
    page, back = straighten(cv2.resize(levels, tuple(shape), interpolation=how))
    ink = find_ink(page)
    lines = find_lines(page)
    cells = find_cells(ink, lines)
    combs, cells = _combs(find_combs(lines, ink), cells)
    marks = [height_of_marks(cell, page=page, ink=ink) for cell in cells]
    below = _neighbours(cells, below=True)
    stacked = np.logical_or(below.any(axis=0), below.any(axis=1))
    fields = [
        field
        for row in _rows(cells)
        for field in _split(
            [cells[i] for i in row],
            stacked=stacked[row].tolist(),
            marks=[marks[i] for i in row],
        )
    ]
    named = _named(_apart(combs + fields)[:MOST_FIELDS])
    return [
        Proposal(name, _shares(box, back=back, page=page), digits) for name, box, digits in named
    ]


def _shares(
    box: Cell, *, back: npt.NDArray[np.float64], page: Pixels
) -> tuple[float, float, float, float]:
    """Return the upright rectangle around a field on the page as it came, as shares."""
    corners = [[x, y, 1] for x in (box.left, box.right) for y in (box.top, box.bottom)]
    points = (np.array(corners) @ back.T / page.shape[::-1]).clip(0, 1)
    (left, top), (wide, high) = points.min(axis=0).tolist(), np.ptp(points, axis=0).tolist()
    return left, top, wide, high


def _combs(
    combs: Sequence[Comb], cells: Sequence[Cell]
) -> tuple[list[tuple[Cell, str]], list[Cell]]:
    """Return the fields that are combs, and the cells that are in none.

    A comb is no field where cells divide it as finely: these say more about it.
    """
    fields: list[tuple[Cell, str]] = []
    for box, digits in combs:
        inside = [cell for cell in cells if _overlap(box, cell) > SHARED]
        overlaps = any(_overlap(box, field) > SHARED for field, _ in fields)
        highest = (1 + ALIKE) * box.height
        parts = [_overlap(cell, box) > 1 - ALIKE and cell.height < highest for cell in inside]
        whole = sorted(cell for cell in inside if cell.height > (1 - ALIKE) * box.height)
        gaps = [(b.left - a.right) * digits / box.width for a, b in pairwise(whole)]
        parts += [abs(gap - round(gap)) < ALIKE for gap in gaps]  # none, or of a lost cell
        if len(inside) == 1 and inside[0].width > inside[0].height:
            box = _around([box, *inside])  # a comb in a frame
        elif len(inside) > digits or len(whole) == digits or not all(parts):
            continue
        if overlaps or digits > MOST_DIGITS:
            continue
        fields.append((box, str(digits)))
        cells = [cell for cell in cells if cell not in inside]
    return fields, list(cells)


def _neighbours(cells: Sequence[Cell], *, below: bool) -> npt.NDArray[np.bool_]:
    """Return (n, n): whether the second cell continues the row, or the column, of the first."""
    left, top, right, bottom = np.array(cells).reshape(-1, 4).T
    if below:
        left, top, right, bottom = top, left, bottom, right
    gap = left - right[:, None]
    high, wide = bottom - top, right - left
    alike = abs(top - top[:, None]) <= ALIKE * high[:, None]
    alike &= abs(bottom - bottom[:, None]) <= ALIKE * high[:, None]
    if not below:
        alike &= abs(wide - wide[:, None]) <= ALIKE * wide[:, None]
    return alike & (gap >= -2) & (gap <= pixels(APART))


def _rows(cells: Sequence[Cell]) -> list[list[int]]:
    """Put cells side by side that are alike together, by their numbers."""
    if not cells:
        return []
    beside = _neighbours(cells, below=False)
    after = np.where(beside.any(axis=1), beside.argmax(axis=1), -1).tolist()
    rows = []
    for first in np.flatnonzero(~beside.any(axis=0)).tolist():
        row = [first]
        while (cell := after[row[-1]]) >= 0 and cell not in row:
            row.append(cell)
        gaps = [cells[b].left - cells[a].right for a, b in pairwise(row)]
        ends = [n for n, gap in enumerate(gaps, 1) if gap > min(gaps) + pixels(UNEVEN)]
        rows += [row[a:b] for a, b in pairwise([0, *ends, len(row)])]
    return rows


def _split(
    row: Sequence[Cell], *, stacked: Sequence[bool], marks: Sequence[float]
) -> list[tuple[Cell, str]]:
    """Return the fields of a row of cells, with their digits.

    Args:
        row: the cells.
        stacked: whether the cell has another one of the same width above or below.
        marks: the height of the largest mark in it, in heights of the cell.
    """
    width, height = np.median([(cell.width, cell.height) for cell in row], axis=0).tolist()
    is_number = width <= WIDE * height and (2 * sum(stacked) < len(row) or width <= pixels(NARROW))
    if 1 < len(row) <= MOST_DIGITS and is_number and np.median(marks) > SMALL:
        return [(_around(row), str(len(row)))]
    return [
        (cell, "any")
        for cell, mark in zip(row, marks, strict=True)
        if mark > SMALL_PRINT
        and min(cell.width, cell.height) >= pixels(CELL)
        and cell.width <= pixels(WIDEST)
    ]


def _around(cells: Sequence[Cell]) -> Cell:
    sides = np.array(cells)
    return Cell(*sides[:, :2].min(axis=0).tolist(), *sides[:, 2:].max(axis=0).tolist())


def _overlap(one: Cell, other: Cell) -> float:
    """Return the share of the smaller cell that lies in the other one."""
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(across, 0) * max(down, 0) / min(one.width * one.height, other.width * other.height)


def _apart(fields: Sequence[tuple[Cell, str]]) -> list[tuple[Cell, str]]:
    """Leave out fields that overlap earlier ones more than a form may have them."""
    kept: list[tuple[Cell, str]] = []
    for field in fields:
        if not any(_overlap(field[0], other) > SHARED for other, _ in kept):
            kept.append(field)
    return kept


def _named(fields: Sequence[tuple[Cell, str]]) -> list[tuple[str, Cell, str]]:
    """Name fields by row and column, in reading order."""

    def row_of(cell: Cell) -> float:
        return (cell.top + cell.bottom) / 2

    rows: list[list[tuple[Cell, str]]] = []
    for field in sorted(fields, key=lambda field: row_of(field[0])):
        last = rows[-1][0][0] if rows else None
        if last and row_of(field[0]) - row_of(last) < 0.5 * min(last.height, field[0].height):
            rows[-1].append(field)
        else:
            rows.append([field])
    return [
        (f"r{r}c{c}", *field)
        for r, row in enumerate(rows, 1)
        for c, field in enumerate(sorted(row, key=lambda field: field[0].left), 1)
    ]
