"""The posts of a page → its combs: rows of equal posts, with a place for a digit between two.

The posts stand on a line, or are so high and so alike that they need none. The outer two may be
higher than the others, such as the sides of a frame.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.forms.lines import Cell, Lines, pixels
from nnpipe.preprocess.pictures import Pixels

NARROWEST, WIDEST = 3.5, 12.0
"""Distances between posts, in millimetres."""

FREE, FEWEST_FREE = 4.5, 3
"""Least height of posts that stand on no line, in millimetres, and their least digits."""

FOOT, APART, ALIKE = 0.6, 0.4, 0.1
"""Differences of posts, in millimetres: of their feet and heights, and of their distances; and of
their heights as a share, if that is more."""

HIDDEN = 4
"""Digits of a comb for each post that may be hidden."""

WHOLE = 0.95
"""Share of a comb that stands on its line."""

EDGE, CLEAR = 0.2, 0.55
"""Shares of the place for a digit: its sides, and what may be inked over the line between these."""

ROOM = 1.3
"""Height of the place for a digit over low posts, in widths."""

HIGHEST = 26.0
"""Height of the highest post, in millimetres."""

MOST_POSTS = 2000
"""Posts that are looked at."""


class Comb(NamedTuple):
    """A row of posts."""

    box: Cell
    digits: int


def find_combs(lines: Lines, ink: Pixels) -> list[Comb]:
    """Return the combs of a page, the longest first; they may overlap."""
    posts = [post for post in lines.posts if post.height <= pixels(HIGHEST)]
    stand = [_stands(post, lines) for post in posts]
    chosen = [i for i, post in enumerate(posts) if stand[i] or post.height >= pixels(FREE)]
    chosen = sorted(chosen, key=lambda i: posts[i].left)[:MOST_POSTS]
    sides = np.array([posts[i] for i in chosen]).reshape(-1, 4)
    on_line = np.array([stand[i] for i in chosen], np.bool_)
    combs: list[Comb] = []
    pairs: set[tuple[int, int]] = set()  # those of rows that begin further to the left
    for first in range(len(sides)):
        for second in _next_to(sides, first):
            if (first, second) in pairs:
                continue
            row = _row(sides, first, second=second)
            pairs.update(pairwise(row))
            comb = _comb(sides[row])
            if len(row) < 3 or len(row) <= comb.digits - comb.digits // HIDDEN:
                continue
            if (on_line[row].all() and _is_on_line(comb, lines=lines, ink=ink)) or _is_free(
                comb, sides[row]
            ):
                combs.append(comb)
    return sorted(combs, key=lambda comb: -comb.digits)


def _stands(post: Cell, lines: Lines) -> bool:
    """Return whether there is a level line at the foot of a post."""
    x, y, near = round(post.left), round(post.bottom), pixels(FOOT)
    foot = lines.level[max(y - near, 0) : y + near, max(x - near, 0) : x + near]
    return bool(foot.any())


def _is_on_line(comb: Comb, *, lines: Lines, ink: Pixels) -> bool:
    """Return whether a comb has one level line below, and little ink over it, unlike a text."""
    left, right = round(comb.box.left), round(comb.box.right)
    y, near = round(comb.box.bottom), pixels(FOOT)
    foot = lines.level[max(y - near, 0) : y + near, left:right]
    if not foot.size or y < 2 * near:
        return False
    over = ink[max(y - 2 * near, 0) : max(y - near, 0), left:right].max(axis=0) > 0
    place = (np.arange(right - left) * comb.digits / (right - left)) % 1
    inner = over[(place > EDGE) & (place < 1 - EDGE)]
    return bool(foot.any(axis=0).mean() > WHOLE and inner.mean() < CLEAR)


def _next_to(sides: npt.NDArray[np.float64], first: int) -> list[int]:
    """Return the posts that may follow one, by their numbers."""
    apart = sides[:, 0] - sides[first, 0]
    even = abs(sides[:, 3] - sides[first, 3]) <= pixels(FOOT)
    fits = even & (apart >= pixels(NARROWEST)) & (apart <= pixels(WIDEST))
    return [int(i) for i in np.flatnonzero(fits)]


def _row(sides: npt.NDArray[np.float64], first: int, *, second: int) -> list[int]:
    """Return the posts that continue a row of two at equal distances, by their numbers."""
    row = [first, second]
    pitch = sides[second, 0] - sides[first, 0]
    high = sides[:, 3] - sides[:, 1]
    near = max(pixels(FOOT), ALIKE * high[second])
    if high[first] < high[second] - near:
        return row
    even = abs(sides[:, 3] - sides[second, 3]) <= pixels(FOOT)
    while True:
        ahead = (sides[:, 0] - sides[row[-1], 0]) / pitch
        ahead[~even | (high < high[second] - near)] = np.inf
        # A stroke may hide a post.
        off = [abs(ahead - steps) * pitch for steps in (1, 2)]
        fits = [int(one.argmin()) for one in off if one.min() <= pixels(APART)]
        if not fits:
            return row
        row.append(fits[0])
        if high[fits[0]] > high[second] + near:
            return row


def _is_free(comb: Comb, row: npt.NDArray[np.float64]) -> bool:
    """Return True for many posts, high and alike, which are a comb without a line below."""
    high = row[:, 3] - row[:, 1]
    many = comb.digits >= FEWEST_FREE
    return bool(many and high.min() >= pixels(FREE) and np.ptp(high) <= pixels(FOOT))


def _comb(row: npt.NDArray[np.float64]) -> Comb:
    left, right, bottom = row[0, 0], row[-1, 0], float(np.median(row[:, 3]))
    digits = round((right - left) / (row[1, 0] - row[0, 0]))
    pitch = (right - left) / digits
    height = bottom - row[[0, -1], 1].max()  # of the lower one of the outer posts
    if height < pixels(FREE):
        height = max(height, ROOM * pitch)
    return Comb(Cell(float(left), bottom - float(height), float(right), bottom), digits)
