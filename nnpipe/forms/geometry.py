"""Corners of boxes, and where a homography maps points."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess import Grey

ODD, MOST_ODD = 1.1, 4.0
"""By how much the sides of a pixel differ at least, so that they are made alike, and at most."""

Array = npt.NDArray[np.float64]


def corners(box: Sequence[float] | Array) -> Array:
    """Return the corners of a box, (4, 2), clockwise from the upper left.

    Args:
        box: left, top, right and bottom.
    """
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def mapped(points: Array, matrix: Array) -> Array:
    """Return where a homography, (3, 3), maps points, (n, 2)."""
    return cv2.perspectiveTransform(points[None], matrix)[0]


def square(levels: Grey, dpi: object) -> Grey:
    """Return a page whose pixels are as wide as they are high. Those of a fax are not.

    Args:
        levels: brightness, (h, w).
        dpi: pixels per inch across and down, as Pillow has them.
    """
    if not isinstance(dpi, tuple) or len(dpi) != 2 or not all(0 < one < 1e5 for one in dpi):
        return levels
    across, down = (float(one) for one in dpi)
    if not ODD < max(across / down, down / across) < MOST_ODD:
        return levels
    height, width = levels.shape
    more = max(across, down)
    size = round(width * more / across), round(height * more / down)
    return cv2.resize(levels, size, interpolation=cv2.INTER_LINEAR)


def is_sane(matrix: Array, shape: tuple[int, ...]) -> bool:
    """Return True if a sheet of paper can be seen like this: convex, not mirrored, no sliver."""
    height, width = shape
    sheet = corners((0, 0, width, height))
    depth = np.hstack([sheet, np.ones((4, 1))]) @ matrix[2]
    if not np.isfinite(matrix).all() or depth.min() <= 0 or depth.max() > 3 * depth.min():
        return False
    sides = np.roll(mapped(sheet, matrix), -1, axis=0) - mapped(sheet, matrix)
    after = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    lengths = np.linalg.norm(sides, axis=1) / np.array([width, height, width, height])
    return bool(
        (turns > 0).all()
        and lengths.min() > 0.2
        and lengths.max() < 5
        and lengths.max() < 3 * lengths.min()
    )
