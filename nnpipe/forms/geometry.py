"""Corners of boxes, and where a homography maps points."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

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
