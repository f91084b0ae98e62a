"""The printed lines of a field, which the reference and the page both show: they are erased."""

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess import Pixels

LONG = 0.6
"""Length of a printed line, as a share of the field's side. Few strokes are so long and straight.
"""

SHORT = 0.2
"""Length of a tick of a comb, which stands between two digits, as a share of the field's height."""

LONGEST = 1.5
"""Length that suffices on a wide field, in heights: its lines may be a little tilted or bent."""

GAP = 0.06
"""Longest gap in a dashed line, in heights."""

NEAR = 0.06
"""Distance at which a line of the page is that of the reference, in heights."""

WALL, REACH = 0.1, 0.1
"""Distances from the edge of a digit's box at which its wall is printed, as a share of its width;
and from the upper or lower edge of the field to which walls and ticks reach, in heights."""

EDGE = 0.2
"""Distance from the edges of the field, and of its digits' boxes, at which lines are printed: a
share of the height, and of a digit's box."""

DARK = 0.08
"""How much darker than its surroundings a line is, as a share of their brightness."""

THICK = 0.3
"""Thickness of the thickest line, in heights."""

Mask = npt.NDArray[np.uint8]


def erase(
    field: Pixels, reference: Pixels, *, margin: float, cells: int, ticks: bool = False
) -> Pixels:
    """Return a field without its printed lines; strokes that cross a line remain.

    Args:
        field: brightness, uint8 (h, w).
        reference: the same part of the reference, (h, w).
        margin: around the field's box, in pixels.
        cells: boxes for a digit each, or 1.
        ticks: there are walls between them, which may be as short as the ticks of a comb.
    """
    erased = field
    height, width = (max(side - 2 * margin, 1) for side in field.shape)
    for upright, length in (
        (True, LONG * height),
        (False, LONG * min(width, LONGEST * height)),
        *([(True, SHORT * height)] if ticks else []),
    ):
        own, others = (
            _lines(image, round(length), height=height, upright=upright)
            for image in (field, reference)
        )
        if length == SHORT * height:
            others = _standing(others, margin=margin + REACH * height, longest=LONG * height)
        near = cv2.dilate(others, _ones(2 * round(NEAR * height) + 1, across=upright))
        mask = cv2.dilate(own & near, np.ones((3, 3), np.uint8))
        if upright:
            mask &= _edges(field.shape[1], pitch=width / cells, margin=margin)
        else:
            mask &= _edges(field.shape[0], pitch=height, margin=margin)[:, None]
        if mask.any():
            size = 2 * _thickness(mask, upright=upright) + 3
            smooth = cv2.morphologyEx(erased, cv2.MORPH_CLOSE, _ones(size, across=upright))
            erased = np.where(mask > 0, smooth, erased)
    return erased


def has_walls(reference: Pixels, *, margin: float, cells: int) -> bool:
    """Return True if lines or ticks are printed between all boxes of a field; see `erase`."""
    height, width = (max(side - 2 * margin, 1) for side in reference.shape)
    lines = _lines(reference, round(SHORT * height), height=height, upright=True)
    columns = _standing(lines, margin=margin + REACH * height, longest=np.inf).max(axis=0)
    pitch = width / cells
    return all(
        columns[int(margin + (n - WALL) * pitch) : int(margin + (n + WALL) * pitch) + 1].any()
        for n in range(1, cells)
    )


def _standing(lines: Mask, *, margin: float, longest: float) -> Mask:
    """Return the upright lines up to a length that reach the upper or the lower edge of a field."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    _, top, _, tall, _ = stats.T
    standing = ((top < margin) | (top + tall > len(lines) - margin)) & (tall < longest)
    return (standing[labels] & (labels > 0)).astype(np.uint8)


def _edges(count: int, *, pitch: float, margin: float) -> Mask:
    """Return 1 for the pixels of a row that lie near a multiple of the pitch, or outside."""
    place = (np.arange(count) + 0.5 - margin) / pitch
    outside = (place < 0) | (place > (count - 2 * margin) / pitch)
    return ((np.abs(place - np.rint(place)) < EDGE) | outside).view(np.uint8)


def _lines(levels: Pixels, length: int, *, height: float, upright: bool) -> Mask:
    """Return 1 for the pixels of straight lines of a length, in pixels."""
    room = max(3, round(0.6 * height)) | 1
    paper = cv2.blur(levels.astype(np.float32), (room, room), borderType=cv2.BORDER_REPLICATE)
    dark = (levels < (1 - DARK) * paper).view(np.uint8)
    closed = _ones(round(GAP * height) + 1, across=not upright)
    dark = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, closed)
    long = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _ones(length, across=not upright))
    # Lines that are a little tilted or bent are longer than their straight parts.
    long = dark & cv2.dilate(long, _ones(length | 1, across=not upright))
    thick = cv2.morphologyEx(long, cv2.MORPH_OPEN, _ones(round(THICK * height) + 2, across=upright))
    return long & ~thick


def _thickness(mask: Mask, *, upright: bool) -> int:
    """Return the thickness of the thickest line, in pixels."""
    lines = mask if upright else np.ascontiguousarray(mask.T)
    steps = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8).ravel())
    return int((np.flatnonzero(steps < 0) - np.flatnonzero(steps > 0)).max(initial=0))


def _ones(length: int, *, across: bool) -> Mask:
    """Return a kernel of a row of pixels, or of a column."""
    return np.ones((1, max(length, 1)) if across else (max(length, 1), 1), np.uint8)
