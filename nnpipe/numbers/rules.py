"""Printed lines around digits: boxes, combs, and rules to write on.

A stroke of a digit may be as straight as a printed line, and a box may be as narrow as a digit. But
printed lines are longer than strokes, or they continue each other along the whole number, or they
run from one such line to another.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.preprocess.mnist_like import FAINTEST
from nnpipe.preprocess.pictures import Pixels

PIECE, SHORTEST, STEM = 0.5, 0.7, 0.8
"""Lengths, in heights of the digits, of straight runs of ink, of pieces of a level line, and of the
longest upright strokes of most digits."""

LONG, TALL, AS_TALL = 1.8, 1.4, 1.12
"""Lengths, in heights of the digits: from the first on, level lines are no strokes; from the second
on, upright ones; from the third on, upright ones through the whole picture."""

THICKEST = 0.35
"""Width of a line, in heights of the digits."""

STEEPEST = 0.15
"""Slope of a line: 8.5°."""

STRAIGHT = 0.6
"""Share of a piece that is near a straight line; strokes touch the rest."""

HOLLOW = 0.7
"""Share of ink between the edges of a piece below which it is two lines."""

CROOKED, LEAST_BOW, BENT = 1.5, 1.25, 0.015
"""Deviations from a straight line: of single places, in pixels; and of the middle of a bow, in
pixels, or as a share of its length."""

ALIKE, UPRIGHT = 0.06, 0.03
"""Difference between the slopes of pieces of one line; and slope of a line that is exactly upright.
"""

NEAR, CLOSE, REACH = 0.04, 0.1, 0.2
"""Distances, in heights of the digits: between lines that continue each other; between the ends of
lines of one height; and between the end of a line and the line that it meets."""

DARKER = 1.4
"""How many times as dark as a line ink must be to stay where it crosses the line."""

MANY, MOST = 200, 50
"""Pieces of straight ink: more of them make a text, a pattern or noise; and how many of the longest
level ones are looked at."""

TEETH, FAR = 3, 1.3
"""Upright lines of one height that make a comb; and their distance, relative to their length, from
which two do."""


class Rule(NamedTuple):
    """A straight piece along one axis of a picture; if it is upright, of the transposed one."""

    upright: bool
    start: float  # the row of its middle in column 0
    slope: float  # rows per column
    width: float  # in pixels
    first: int  # column
    last: int  # one past the last column

    @property
    def length(self) -> int:
        """Its length in pixels."""
        return self.last - self.first

    @property
    def middle(self) -> float:
        """The column of its middle."""
        return (self.first + self.last) / 2

    def at(self, column: float) -> float:
        """Return the row of its middle in a column."""
        return self.start + self.slope * column


class Pieces(NamedTuple):
    """The straight pieces of a mask of ink."""

    level: list[Rule]
    upright: list[Rule]
    rows: int  # of the mask
    high: float  # of the digits

    @property
    def long(self) -> list[Rule]:
        """Those that are longer than most strokes of a digit."""
        return self.level + [rule for rule in self.upright if rule.length > STEM * self.high]


def straight(ink: Pixels, *, high: float) -> Pieces:
    """Find all straight pieces of ink.

    Args:
        ink: uint8 (h, w), 1 where there is ink.
        high: the height of the digits, in pixels.
    """
    level, upright = (list(_straight(ink, high=high, upright=way)) for way in (False, True))
    return Pieces(level, upright, len(ink), high)


def _straight(ink: Pixels, *, high: float, upright: bool) -> Iterator[Rule]:
    """Find straight pieces along the rows, or the columns."""
    turned = np.ascontiguousarray(ink.T) if upright else ink
    piece = max(7, round(PIECE * high) | 1)
    # A line that is tilted climbs from row to row: look at three rows at once.
    runs = cv2.dilate(turned, np.ones((3, 1), np.uint8))
    runs = cv2.morphologyEx(runs, cv2.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    runs = cv2.erode(runs, np.ones((1, piece), np.uint8), borderValue=0)
    if not cv2.countNonZero(runs):
        return
    runs = cv2.dilate(runs, np.ones((3, piece), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    if count > MANY:
        return
    for number in range(1, count):
        left, top, across, down, _ = stats[number].tolist()
        inside = labels[top : top + down, left : left + across] == number
        part = turned[top : top + down, left : left + across] & inside
        columns = np.flatnonzero(part.any(axis=0))
        rule = _fit(part[:, columns], columns, high=high) if len(columns) >= piece else None
        if rule:
            start = rule.start + top - rule.slope * left
            yield Rule(upright, start, rule.slope, rule.width, rule.first + left, rule.last + left)


def _fit(part: Pixels, columns: np.ndarray, *, high: float) -> Rule | None:
    """Fit a straight line to the middle of the ink in each column; return None if it is no line."""
    upper = part.argmax(axis=0)
    lower = part.shape[0] - part[::-1].argmax(axis=0)
    middles = (upper + lower - 1) / 2
    points = np.stack([columns, middles], axis=1).astype(np.float32)
    # Huber's distance: strokes that touch the line count less.
    across, down, x, y = cv2.fitLine(points, cv2.DIST_HUBER, 0, 0.01, 0.01).ravel().tolist()
    if abs(down) > STEEPEST * abs(across):
        return None
    slope = down / across
    line = y + slope * (columns - x)
    near = np.abs(middles - line) <= CROOKED
    length = np.ptp(columns)
    if near.mean() < STRAIGHT:
        return None
    first, middle, last = (part.mean() for part in np.array_split(middles - line, 3))
    bow = 2.25 * (middle - (first + last) / 2)  # of a parabola: 27/12 of the difference of thirds
    width = float(np.median((lower - upper)[near]))
    is_thick = width > max(2, THICKEST * high)
    if abs(bow) > max(LEAST_BOW, BENT * length) or (
        is_thick and not _double(part, upper - line, high=high)
    ):
        return None
    return Rule(False, y - slope * x, slope, width, int(columns[0]), int(columns[-1]) + 1)


def _double(part: Pixels, edge: np.ndarray, *, high: float) -> bool:
    """Return True if a piece is the two lines between neighbouring boxes."""
    is_even = float(np.median(np.abs(edge - np.median(edge)))) < CROOKED / 2
    return is_even and len(part) < 2 * THICKEST * high and float(part.mean()) < HOLLOW


def find(pieces: Pieces, *, level: Sequence[Rule] = ()) -> list[Rule]:
    """Find the printed lines among straight pieces.

    Args:
        pieces: those of the picture.
        level: level lines that are already known.
    """
    high, uprights = pieces.high, pieces.upright
    found = _level(pieces)
    level = [*level, *found]
    sure = [rule for rule in uprights if _is_sure(rule, level, rows=pieces.rows, high=high)]
    sure = sure or _ticks(pieces)
    like = [
        r for r in uprights if sum(_alike(r, other, level=level, high=high) for other in sure) > 1
    ]
    found += [r for r in uprights if r in sure or r in like]
    return found + _comb(uprights, level, high=high)


def _is_sure(rule: Rule, level: list[Rule], *, rows: int, high: float) -> bool:
    """Return True if an upright line is too long, or runs from one level line to another."""
    through = rule.first <= 2 and rule.last >= rows - 2
    limit = AS_TALL if through else TALL
    return rule.length > limit * high or all(_ends(rule, level, high=high))


def _ticks(pieces: Pieces) -> list[Rule]:
    """Return the uprights if all are exactly upright, alike, and far apart or cut by the border.

    Such are the ticks of a comb. Other ones may be digits, as in 11.
    """
    rules = sorted(pieces.upright, key=lambda rule: rule.at(rule.middle))
    alike = all(_alike(rules[0], rule, level=[], high=pieces.high) for rule in rules[1:])
    exact = all(abs(rule.slope) < UPRIGHT for rule in rules)
    cut = all(rule.first <= 2 or rule.last >= pieces.rows - 2 for rule in rules)
    gaps = [b.at(b.middle) - a.at(a.middle) for a, b in pairwise(rules)]
    far = all(gap > FAR * rule.length for gap, rule in zip(gaps, rules, strict=False))
    return rules if len(rules) > 1 and alike and exact and (cut or far) else []


def _comb(uprights: list[Rule], level: list[Rule], *, high: float) -> list[Rule]:
    """Return uprights of one height that stand on a level line: short ones, or if all are alike."""
    standing = [rule for rule in uprights if any(_ends(rule, level, high=high))]

    def teeth(some: list[Rule]) -> list[Rule]:
        counts = [sum(_alike(a, b, level=level, high=high) for b in some) for a in some]
        return [rule for rule, count in zip(some, counts, strict=True) if count >= TEETH]

    every = teeth(standing)
    if len(every) == len(uprights):
        return every
    return teeth([rule for rule in standing if rule.length < 0.7 * high])


def _level(pieces: Pieces) -> list[Rule]:
    """Find level lines: long pieces, and those that continue each other.

    Those that do have uprights at most of their ends, as boxes do, or all have one length.
    """
    high = pieces.high
    left = [rule for rule in pieces.level if rule.length > SHORTEST * high]
    left = sorted(left, key=lambda rule: -rule.length)[:MOST]
    found: list[Rule] = []
    while left:
        longest = left[0]
        groups = [_along(left, longest, slope=longest.slope, high=high)]
        for other in left:
            across = other.middle - longest.middle
            if abs(across) > high:
                slope = (other.at(other.middle) - longest.at(longest.middle)) / across
                groups.append(_along(left, longest, slope=slope, high=high))
        group = max(groups, key=lambda some: sum(rule.length for rule in some))
        lengths = np.array([rule.length for rule in group])
        corners = sum(_meets_end(rule, pieces.upright, high=high) for rule in group)
        is_row = len(group) > 2 and float(lengths.std()) < 0.08 * float(lengths.mean())
        if (
            longest.length > LONG * high
            or corners == 2 * len(group)
            or (lengths.sum() > LONG * high and (corners >= len(group) or is_row))
        ):
            found += group
        left = [rule for rule in left if rule not in group]
    return found


def _along(pieces: list[Rule], one: Rule, *, slope: float, high: float) -> list[Rule]:
    """Return the pieces that lie on the line through the middle of one of them."""
    start = one.at(one.middle) - slope * one.middle
    tolerance = max(1.2, NEAR * high)
    return [
        rule
        for rule in pieces
        if abs(rule.at(rule.middle) - start - slope * rule.middle) <= tolerance
        and abs(rule.slope - slope) <= ALIKE
    ]


def _meets_end(rule: Rule, uprights: list[Rule], *, high: float) -> int:
    """Count the ends of a level piece at which an upright one ends."""
    reach = max(3.0, REACH * high)
    return sum(
        any(
            abs(other.at(rule.at(end)) - end) <= reach
            and min(abs(other.first - rule.at(end)), abs(other.last - rule.at(end))) <= reach
            for other in uprights
        )
        for end in (rule.first, rule.last)
    )


def _ends(rule: Rule, level: list[Rule], *, high: float) -> tuple[bool, bool]:
    """Return whether the upper and the lower end of an upright line meet level ones."""
    reach = max(3.0, REACH * high)

    def meets(row: int) -> bool:
        column = rule.at(row)
        return any(
            abs(other.at(column) - row) <= reach
            and other.first - high <= column <= other.last + high
            for other in level
        )

    return meets(rule.first), meets(rule.last)


def _alike(one: Rule, other: Rule, *, level: list[Rule], high: float) -> bool:
    """Return True if two uprights begin and end on the same heights."""
    slope = level[0].slope if level else 0.0
    down = slope * (one.at(one.middle) - other.at(other.middle))
    tolerance = max(2.0, CLOSE * high)
    return all(
        abs(a - b - down) <= tolerance
        for a, b in ((one.first, other.first), (one.last, other.last))
    )


def erase(strength: Pixels, rules: list[Rule]) -> Pixels:
    """Erase lines; strokes that cross a line remain. Without lines, return the same array."""
    rest = strength.copy() if rules else strength
    for rule in rules:
        _erase(rest.T if rule.upright else rest, rule)
    return rest


def _erase(strength: Pixels, rule: Rule) -> None:
    """Erase a line that runs along the rows, in place."""
    height, width = strength.shape
    columns = np.arange(max(0, rule.first - 2), min(width, rule.last + 2))
    middle = rule.start + rule.slope * columns
    above = np.floor(middle - rule.width / 2 - 0.7).astype(np.intp)
    below = np.ceil(middle + rule.width / 2 + 0.7).astype(np.intp)
    rows = np.arange(max(0, above.min()), min(height, below.max() + 1))[:, None]
    on = (rows >= above) & (rows <= below)
    # What continues on both sides of the line crosses it.
    up = strength[np.clip(above - 1, 0, height - 1), columns] > 100
    down = strength[np.clip(below + 1, 0, height - 1), columns] > 100
    both = (up & down).astype(np.uint8)[None]
    on &= cv2.dilate(both, np.ones((1, 3), np.uint8))[0] == 0
    place = strength[rows[0, 0] : rows[-1, 0] + 1, columns[0] : columns[-1] + 1]
    inked = place[on & (place > FAINTEST)]
    usual = float(np.median(inked)) if inked.size else 0.0
    place[on & (place <= DARKER * usual)] = 0


def mask(strength: Pixels) -> Pixels:
    """Return where there is ink."""
    return (strength > FAINTEST).view(np.uint8)
