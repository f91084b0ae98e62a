"""The ink of a picture → its one line of digits: upright, of a common height, without rules.

The height of the digits is not known before rules and frames are gone, and what is a rule depends
on the height: a line longer than any stroke. So both are found in turns.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.numbers import rules
from nnpipe.preprocess import lines, paper
from nnpipe.preprocess.marks import NOTHING
from nnpipe.preprocess.mnist_like import FAINTEST
from nnpipe.preprocess.pictures import Pixels

HEIGHT = 36
"""Pixels: the height of the digits on a line."""

TURNS, NEAR = 3, 1.25
"""How often a picture is scaled at most, and the factor that is near enough to the right scale."""

LARGEST = 2000
"""Pixels: the longer side of a picture that is scaled up."""

LOWER, ENOUGH = 0.85, 3.5
"""Without boxes, digits are lower than this share of what they seemed to be; and the boxes' level
lines are longer together than this many heights."""

STEEP = 0.02
"""Slope of a line of writing that is straightened."""

USUAL_SLANT, LEANING = 0.15, 0.15
"""Slant of MNIST's digits, to the right per height, and the deviation from it that is undone."""

FAINT = 0.5
"""Share of the digits' strength below which a mark is the print of the form, or dirt."""

OTHER_LINES = 0.5
"""Mass of large marks above and below the line, as a share of the line's, that make a page."""

MANY, OTHER_MARKS = 40, 0.6
"""Marks on a picture, and the mass of those beside the line, as a share of the line's: more of both
make a text, a pattern or noise."""

MOST_ON_A_LINE = 300
"""Marks as high as digits: more of them are no line of one number."""

THROUGH, ACROSS = 0.2, 0.7
"""Distance of a line that crosses a number out from the middle of the digits, in their heights; and
its length, as a share of the number's."""

CROSSED_OUT = "crossed out"
CROWDED = "like a text, a pattern or noise; expected one number"
SEVERAL_LINES = "several lines of writing; expected one number"

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


class Line(NamedTuple):
    """A line of digits."""

    strength: Pixels  # of the ink, uint8 (h, w)
    top: float  # rows of the upper and the lower edge of its digits
    bottom: float
    to_picture: Matrix  # (3, 3), affine: from x, y on the line to those on the picture
    slant: float = USUAL_SLANT  # of the digits on the picture, to the right per height
    refusal: str = ""  # why this is not one number
    ruled: bool = False  # printed lines were removed

    @property
    def height(self) -> float:
        """The height of its digits, in pixels."""
        return self.bottom - self.top


class Marks(NamedTuple):
    """The connected marks of ink; all arrays but the first have one row per mark."""

    labels: npt.NDArray[np.int32]  # (h, w): 0 where there is no ink, else 1 + the mark's number
    left: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    mass: npt.NDArray[np.float64]  # sum of the strength

    @classmethod
    def of(cls, strength: Pixels) -> "Marks":
        """Find the marks."""
        mask = (strength > FAINTEST).view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, ltype=cv2.CV_32S)
        inked = np.flatnonzero(mask)  # few of all pixels
        mass = np.bincount(labels.ravel()[inked], strength.ravel()[inked], len(stats))
        left, top, width, height, _ = stats[1:].T
        return cls(labels, left, top, width, height, mass[1:].astype(np.float64))

    @property
    def middle(self) -> npt.NDArray[np.float64]:
        """The row of each mark's middle."""
        return self.top + self.height / 2

    def like_digits(self, high: float) -> Bools:
        """Return which marks are as high as digits, and no flat lines."""
        return (
            (self.height > 0.5 * high)
            & (self.height < 1.7 * high)
            & (self.height > 0.4 * self.width)
        )

    def usual_height(self, *, ruled: bool = False) -> float:
        """Estimate the height of the digits: a high quantile of the marks, weighted by height.

        On a ruled picture, narrow marks from its top to its bottom are what is left of rules.
        """
        rows = len(self.labels)
        may = (self.height > 0.5 * self.width) & (self.height >= max(0.06 * rows, 5))
        may &= self.mass < 0.8 * 255 * self.width * self.height
        if ruled:
            may &= (self.height < 0.8 * rows) | (self.width > 0.2 * self.height)
        for others in (self.height > self.width, self.height > 0):
            may = may if may.any() else others
        heights = np.sort(self.height[may])
        total = np.cumsum(heights)
        return float(heights[np.searchsorted(total, 0.6 * total[-1])])


def find(levels: Pixels, *, light: bool, even: bool, printed: bool, small: bool) -> Line:
    """Find the line of digits on a picture.

    Args:
        levels: brightness, uint8 (h, w).
        light: the paper is brighter than the ink.
        even: the paper has one level.
        printed: there are printed lines, and they are removed.
        small: marks smaller than digits, beside them, are kept, since they may be separators.

    Returns:
        A line; it has a refusal if it cannot be one number.
    """
    matrix, ruled = np.eye(3), False
    for turn in range(TURNS):
        ink = paper.ink(levels, light=light, even=even)
        if ink is None:
            return _refused(NOTHING)
        strength, level = _without_rules(ink) if printed else (ink, [])
        ruled |= strength is not ink
        marks = Marks.of(strength)
        if not len(marks.mass):
            return _refused(NOTHING)._replace(ruled=ruled)
        high = marks.usual_height(ruled=strength is not ink)
        factor = HEIGHT / high
        size = [max(1, round(side * factor)) for side in levels.shape[::-1]]
        if 1 / NEAR < factor < NEAR or max(size) > LARGEST or turn == TURNS - 1:
            break
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        matrix = np.diag([size[0] / levels.shape[1], size[1] / levels.shape[0], 1]) @ matrix
        levels = cv2.resize(levels, size, interpolation=how)
    if _is_crossed_out(marks, level, high=high):
        return _refused(CROSSED_OUT)._replace(ruled=True)
    slope = _slope(marks, high)
    if abs(slope) > STEEP:
        strength, turned = _sheared(strength, down=-slope)
        matrix, marks = turned @ matrix, Marks.of(strength)
    line = _cut_out(strength, marks, matrix=matrix, high=high, small=small)
    return line._replace(ruled=ruled)


def _refused(reason: str) -> Line:
    return Line(np.zeros((HEIGHT, HEIGHT), np.uint8), 0, HEIGHT, np.eye(3), refusal=reason)


def _without_rules(strength: Pixels) -> tuple[Pixels, list[rules.Rule]]:
    """Remove printed lines: those that cross the picture, then boxes, combs and rules.

    Returns:
        What is left, and the level ones of the lines.
    """
    found = [line._replace(side=0) for line in lines.find(rules.mask(strength))]
    certain: list[lines.Line] = []
    if 0 < len(found) < MANY:  # what lies beyond a line stays
        high = _height(lines.remove(strength, found))
        limits = [(rules.TALL if line.vertical else rules.LONG) * high for line in found]
        certain = [
            line
            for line, limit in zip(found, limits, strict=True)
            if line.last - line.first > limit
        ]
        strength = lines.remove(strength, certain) if certain else strength
    known = [
        rules.Rule(False, one.start + one.width / 2, *one[2:6])
        for one in certain
        if not one.vertical
    ]
    ink = rules.mask(strength)
    high = _height(strength)
    pieces = rules.straight(ink, high=high)
    # Boxes hide how high the digits are. What is left without any straight piece tells.
    lower = _height(rules.erase(strength, pieces.long))
    printed = rules.find(pieces, level=known)
    if lower < LOWER * high:
        some = rules.find(rules.straight(ink, high=lower), level=known)
        if sum(r.length for r in [*known, *some] if not r.upright) > ENOUGH * lower:
            printed = some
    level = known + [rule for rule in printed if not rule.upright]
    return rules.erase(strength, printed), level


def _is_crossed_out(marks: Marks, level: list[rules.Rule], *, high: float) -> bool:
    """Return True if a line runs through the middle of the digits, from the first to the last."""
    digits = marks.like_digits(high)
    if not digits.any():
        return False
    middle = np.average(marks.middle[digits], weights=marks.mass[digits])
    left, right = marks.left[digits].min(), (marks.left + marks.width)[digits].max()
    return any(
        abs(rule.at((left + right) / 2) - middle) < THROUGH * high
        and min(rule.last, right) - max(rule.first, left) > ACROSS * (right - left)
        for rule in level
    )


def _height(strength: Pixels) -> float:
    marks = Marks.of(strength)
    return marks.usual_height() if len(marks.mass) else float(len(strength))


def _slope(marks: Marks, high: float) -> float:
    """Return the slope of the line of writing: the median over pairs of digits (Theil 1950)."""
    some = marks.like_digits(high) & (marks.width < 2.5 * high)
    if not 3 <= np.count_nonzero(some) <= MOST_ON_A_LINE:
        return 0.0
    x, y = marks.left[some] + marks.width[some] / 2, marks.middle[some]
    across, down = np.subtract.outer(x, x), np.subtract.outer(y, y)
    far = across > high
    return float(np.median(down[far] / across[far])) if far.any() else 0.0


def _sheared(strength: Pixels, *, down: float = 0.0, right: float = 0.0) -> tuple[Pixels, Matrix]:
    """Shift columns down in proportion to their place, or rows to the right; return the matrix."""
    height, width = strength.shape
    matrix = np.array(
        [[1, right, max(0.0, -right * height)], [down, 1, max(0.0, -down * width)], [0, 0, 1]]
    )
    size = width + int(abs(right) * height), height + int(abs(down) * width)
    return cv2.warpAffine(strength, matrix[:2], size, flags=cv2.INTER_LINEAR), matrix


def _cut_out(strength: Pixels, marks: Marks, *, matrix: Matrix, high: float, small: bool) -> Line:
    """Remove what does not belong to the line, undo its slant, and cut it to its ink."""
    digits = marks.like_digits(high)
    if not digits.any():
        digits = marks.mass == marks.mass.max()
    middle = np.average(marks.middle[digits], weights=marks.mass[digits])
    top, bottom = middle - high / 2, middle + high / 2
    beyond = (marks.top > bottom) | (marks.top + marks.height < top)
    if marks.mass[beyond & digits].sum() > OTHER_LINES * marks.mass[~beyond].sum():
        return _refused(SEVERAL_LINES)
    inked = np.bincount(marks.labels.ravel(), minlength=len(marks.mass) + 1)[1:]
    mean = marks.mass / inked
    outside = (marks.middle < top + 0.05 * high) | (marks.middle > bottom - 0.05 * high)
    gone = beyond | (mean < FAINT * np.average(mean[digits], weights=marks.mass[digits]))
    if not small:
        gone |= (marks.height < 0.45 * high) & outside
        gone |= (marks.height < 0.12 * high) & (marks.width < 0.2 * high)
    if len(gone) > MANY and marks.mass[gone].sum() > OTHER_MARKS * marks.mass[~gone].sum():
        return _refused(CROWDED)
    keep = np.concatenate([[False], ~gone])
    strength = strength * keep[marks.labels]
    slant = _slant(strength, marks, high=high)
    lean = slant - USUAL_SLANT
    if abs(lean) > LEANING:
        strength, turned = _sheared(strength, right=lean)
        matrix = turned @ matrix
    left, upper, width, height = cv2.boundingRect((strength > FAINTEST).view(np.uint8))
    if not width:
        return _refused(NOTHING)
    left, upper = max(0, left - 2), max(0, upper - 1)
    cut = strength[upper : upper + height + 3, left : left + width + 4]
    matrix = np.array([[1, 0, -left], [0, 1, -upper], [0, 0, 1]]) @ matrix
    inverse = np.asarray(np.linalg.inv(matrix), np.float64)
    return Line(np.ascontiguousarray(cut), top - upper, bottom - upper, inverse, slant)


def _slant(strength: Pixels, marks: Marks, *, high: float) -> float:
    """Return how far the digits lean to the right per height, by their second moments.

    It is that of MNIST's digits if fewer than three digits stand alone.
    """
    alone = marks.like_digits(high) & (marks.height > 0.6 * high) & (marks.width < 1.2 * high)
    if np.count_nonzero(alone) < 3:
        return USUAL_SLANT
    rows, columns = np.nonzero(strength)
    mark = marks.labels[rows, columns].astype(np.intp) - 1
    across, down = (m[alone].sum() for m in moments(mark, (columns, rows), n=len(alone)))
    return float(-across / down) if down else USUAL_SLANT


def moments(group: Ints, places: tuple[Ints, Ints], *, n: int) -> list[Matrix]:
    """Return the second moments of n groups of pixels: of x and y, and of y alone; each (n,).

    Args:
        group: of each pixel.
        places: their x and y.
        n: the number of groups.
    """
    count = np.maximum(np.bincount(group, minlength=n), 1)
    x, y = (axis - (np.bincount(group, axis, n) / count)[group] for axis in places)
    return [np.bincount(group, square, n).astype(np.float64) for square in (x * y, y * y)]
