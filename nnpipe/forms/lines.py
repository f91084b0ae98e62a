"""A page → its printed lines, after it is turned straight.

A line is thin, straight and long. So it shows at a much lower contrast than a stroke does: what is
darker than the paper at both sides, on average over a short way along the line, and goes on.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.pictures import Pixels

PER_MM = 8
"""Pixels per millimetre at which lines are looked for."""

SHORTEST, SHORT = 4.0, 1.0
"""Lengths in millimetres: least of a level line, and of a post."""

STROKE = 8.0
"""Length of a line, in millimetres, from which it is no stroke of a digit."""

THICK = 1.3
"""Width of a line, in millimetres; what is thicker is a dark area."""

RUN, GAP = 3.2, 2.0
"""Lengths, in millimetres: of a straight piece of a line, and of a gap in it."""

NEAR, FAR = 0.6, 2.5
"""Ways, in millimetres, over which the darkness of lines and of faint lines is averaged."""

STRONG, FAINT, NOISE = 17.0, 2.0, 3.0
"""How much darker than paper a line and a faint line are: in levels, and in medians of the page."""

PEAK = 0.4
"""How dark the sides of a line are, as a share of its middle."""

WEAK, STEADY = 0.4, 0.5
"""What makes a faint line more than a row of letters: its darkest place, as a share of the ink of
the page, is weak; or its average is no less than this share of its darkest place."""

STEEPEST, STEP = 5.0, 0.1
"""Largest tilt of a page that is turned straight, and the steps in which it is measured, in
degrees."""

COARSE, STRONGEST = 2, 60
"""Pixels per millimetre at which the tilt is measured, and darkness up to which ink counts."""


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
    upright: Pixels  # short lines of both kinds run from one line to another
    posts: list[Cell]  # all thin upright pieces, without their width


def pixels(mm: float) -> int:
    """Return a length in pixels."""
    return round(mm * PER_MM)


def straighten(page: Pixels) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """Turn a page so that its lines and its rows of text are level.

    Args:
        page: (h, w), `PER_MM` pixels per millimetre.

    Returns:
        The turned page, (h, w), and the (2, 3) matrix that takes its points back.
    """
    shape = [max(1, side * COARSE // PER_MM) for side in page.shape[::-1]]
    small = cv2.resize(page, shape, interpolation=cv2.INTER_AREA)
    dark = cv2.morphologyEx(small, cv2.MORPH_BLACKHAT, np.ones((5, 1), np.uint8))
    dark = np.minimum(dark, STRONGEST).astype(np.float32)
    high, wide = dark.shape
    sharpest, best = 0.0, 0.0
    for degrees in sorted(np.arange(-STEEPEST, STEEPEST + STEP, STEP), key=abs):
        slope = float(np.tan(np.radians(degrees)))
        level = np.array([[1, 0, 0], [-slope, 1, slope * wide / 2]])
        rows = cv2.warpAffine(dark, level, (wide, high)).sum(axis=1, dtype=np.float64)
        sharpness = float((np.diff(rows) ** 2).sum())
        if sharpness > sharpest:
            sharpest, best = sharpness, float(degrees)
    high, wide = page.shape
    turn = cv2.getRotationMatrix2D((wide / 2, high / 2), best, 1)
    straight = cv2.warpAffine(page, turn, (wide, high), borderMode=cv2.BORDER_REPLICATE)
    return straight, cv2.invertAffineTransform(turn)


def find_lines(page: Pixels) -> Lines:
    """Find the printed lines of a straight page, (h, w)."""
    level, _ = _thin(page)
    upright, strokes = _thin(np.ascontiguousarray(page.T))
    level = _longer(level, run=pixels(RUN), least=pixels(SHORTEST))
    upright = _longer(upright, run=pixels(RUN), least=pixels(RUN))
    level = _joined(level, upright.T)
    posts = []
    inset = pixels(NEAR) / 2
    for (top, left, height, width), _ in _pieces(
        _longer(strokes, run=pixels(SHORT), least=pixels(SHORT))
    ):
        if width <= pixels(THICK):
            middle = left + width / 2
            posts.append(Cell(middle, top + inset, middle, top + height - inset))
    return Lines(level, _joined(upright, level.T).T, posts)


def _joined(level: Pixels, upright: Pixels) -> Pixels:
    """Return the level lines without strokes: short ones that do not end at upright lines."""
    near = cv2.dilate(upright, np.ones((pixels(0.5) | 1, pixels(1.5) | 1), np.uint8))
    kept = np.zeros_like(level)
    for (left, top, width, height), part in _pieces(level):
        place = np.s_[top : top + height, left : left + width]
        around = near[place][:, part.any(axis=0)]
        ends = around[:, : pixels(0.5)].any() and around[:, -pixels(0.5) :].any()
        if ends or width > pixels(STROKE):
            kept[place][part] = 255
    return kept


def _pieces(mask: Pixels) -> list[tuple[list[int], npt.NDArray[np.bool_]]]:
    """Return left, top, width and height of each piece of a mask, and where it is therein."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask))
    pieces = []
    for number, (left, top, width, height, _) in enumerate(stats[1:].tolist(), 1):
        part = labels[top : top + height, left : left + width] == number
        pieces.append(([left, top, width, height], part))
    return pieces


def _thin(page: Pixels) -> tuple[Pixels, Pixels]:
    """Return where a page has thin level lines and strokes, as 0 and 255, with and without those
    that are faint, whose ends are blurred.
    """
    across = np.ones((pixels(THICK) | 1, 1), np.uint8)

    def darker(way: float) -> tuple[Pixels, Pixels]:
        smooth = cv2.blur(page, (pixels(way) | 1, 1))
        by = cv2.morphologyEx(smooth, cv2.MORPH_BLACKHAT, across)
        return by, cv2.dilate(by, across)

    # The middle of a line decides how dark its sides are, or else dark lines would become thick.
    near, middle = darker(NEAR)
    strong = near > max(STRONG, NOISE * float(np.median(near)))
    thin = strong & (near >= PEAK * middle)
    most = cv2.dilate(middle, np.ones((1, pixels(FAR) | 1), np.uint8))
    ink = float(near[strong].mean()) if strong.any() else 255.0
    far, middle = darker(FAR)
    faint = far > max(FAINT, NOISE * float(np.median(far)))
    faint &= (most < WEAK * ink) | (far > STEADY * most)
    faint &= far >= PEAK * middle
    return (thin | faint).view(np.uint8) * 255, thin.view(np.uint8) * 255


def _longer(thin: Pixels, *, run: int, least: int) -> Pixels:
    """Return the level lines of ``least`` pixels and more."""
    thick = cv2.dilate(thin, np.ones((3, 1), np.uint8))
    lines = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, run | 1), np.uint8))
    gap = pixels(GAP if least > pixels(SHORT) else SHORT)
    lines = cv2.morphologyEx(lines, cv2.MORPH_CLOSE, np.ones((1, gap | 1), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines)
    long = stats[:, cv2.CC_STAT_WIDTH] >= least
    long[0] = False
    return long[labels].view(np.uint8) * 255
