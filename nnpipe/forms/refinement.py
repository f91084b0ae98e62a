"""A guess of where a page shows a form → the place at which their prints agree best.

Inverse compositional alignment (Baker and Matthews 2004, "Lucas–Kanade 20 Years On"), from coarse
to fine. Handwriting differs from page to page: pixels that do not agree hardly count.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.forms.geometry import Array
from nnpipe.forms.strokes import Image, blurred, scaling, warped

COARSE, FINE = ((4, 3.0, 6), (4, 1.5, 5)), ((2, 1.25, 4), (1, 1.2, 3))
"""By how much the prints are shrunk, by how many pixels they are blurred then, and how often
each step is repeated."""

AGREES = 0.25
"""Difference of two strengths beyond which a pixel hardly counts."""

MOST = 30_000
"""Most pixels of the reference that a step looks at; OpenCV takes no more than 32,767."""

AROUND = 60
"""Pixels around a field by whose print its place is refined."""

STIFF = 0.02
"""How much the place of a field tends to that of the whole page, as a share of its print."""

FARTHEST = 12.0
"""Pixels by which a field may move on its own."""


class Level(NamedTuple):
    """What the refinement at one blur needs of the reference."""

    shrunk: int
    blur: float
    repeats: int
    shape: tuple[int, ...]
    rows: npt.NDArray[np.intp]  # (n,) of the pixels that tell their place
    columns: npt.NDArray[np.intp]
    strength: Image  # (n,)
    slopes: Image  # (n, 2), of the strength, in x and y


class Refinement:
    """Refines places of a form.

    Args:
        pyramid: strength of its strokes, as `strokes.shrunken` returns it.
    """

    def __init__(self, pyramid: Mapping[int, Image]) -> None:
        self.coarse, self.fine = (
            [_level(pyramid[n], shrunk=n, blur=blur, repeats=repeats) for n, blur, repeats in steps]
            for steps in (COARSE, FINE)
        )

    def refined(self, matrix: Array, page: Mapping[int, Image], *, fine: bool) -> Array:
        """Return a homography by which the page's print agrees better with the reference's.

        Args:
            matrix: the homography from the reference to the page.
            page: strength of its strokes, as `strokes.shrunken` returns it.
            fine: whether it is already right within some pixels.
        """
        for level in self.fine if fine else self.coarse:
            onto = scaling(1 / level.shrunk, 1 / level.shrunk)
            inner = _step(level, onto @ matrix @ np.linalg.inv(onto), page=page[level.shrunk])
            matrix = np.linalg.inv(onto) @ inner @ onto
        return matrix / matrix[2, 2]

    def shifts(self, matrix: Array, page: Mapping[int, Image], *, boxes: Array) -> Array:
        """Return by how many pixels of the reference each field is shifted, (n, 2)."""
        shifts = np.zeros((len(boxes), 2))
        for level in self.fine:
            onto = scaling(1 / level.shrunk, 1 / level.shrunk)
            inner = onto @ matrix @ np.linalg.inv(onto)
            print_ = blurred(warped(page[level.shrunk], inner, shape=level.shape), level.blur)
            for number, box in enumerate(boxes / level.shrunk):
                start = shifts[number] / level.shrunk
                shift = _shift(level, print_, box=box, start=start)
                shifts[number] = shift * level.shrunk
        return shifts


def _level(strength: Image, *, shrunk: int, blur: float, repeats: int) -> Level:
    soft = blurred(strength, blur)
    dx = cv2.Sobel(soft, cv2.CV_32F, 1, 0) / 8
    dy = cv2.Sobel(soft, cv2.CV_32F, 0, 1) / 8
    size = np.hypot(dx, dy)
    rows, columns = np.nonzero(size > 0.15 * float(size.max(initial=0)))
    some = np.arange(0, len(rows), max(1, -(-len(rows) // MOST)))
    rows, columns = rows[some], columns[some]
    slopes = np.stack([dx[rows, columns], dy[rows, columns]], axis=1)
    shape = strength.shape
    return Level(shrunk, blur, repeats, shape, rows, columns, soft[rows, columns], slopes)


def _step(level: Level, matrix: Array, *, page: Image) -> Array:
    height, width = level.shape
    # Coordinates of about 1 keep the equations well conditioned.
    norm = np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1]])
    back = np.linalg.inv(norm)
    x, y, _ = norm @ np.stack([level.columns, level.rows, np.ones(len(level.rows))])
    gx, gy = level.slopes.T * (width / 2)
    along = -(gx * x + gy * y)
    jacobian = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy, along * x, along * y])
    for _ in range(level.repeats):
        print_ = blurred(warped(page, matrix, shape=level.shape), level.blur)
        error, weight = _errors(level.strength, print_[level.rows, level.columns])
        weighed = jacobian * weight
        step, *_ = np.linalg.lstsq(weighed @ jacobian.T, weighed @ error, rcond=1e-9)
        change = np.append(step, 0).reshape(3, 3) + np.eye(3)
        matrix = matrix @ back @ change @ norm
        matrix /= matrix[2, 2]
    return matrix


def _errors(reference: Image, page: Image) -> tuple[Any, Any]:
    """Return by how much the reference's pixels are stronger than the page's, and weights."""
    error = reference - page
    return error, 1 / (1 + (error / AGREES) ** 2) ** 2


def _shift(level: Level, page: Image, *, box: Array, start: Array) -> Array:
    """Return by how many pixels the print around a box is shifted."""
    left, top, right, bottom = box + np.array([-1, -1, 1, 1]) * AROUND / level.shrunk
    chosen = np.flatnonzero(
        (level.rows > top)
        & (level.rows < bottom)
        & (level.columns > left)
        & (level.columns < right)
    )
    if not len(chosen):
        return start
    columns, rows, slopes = level.columns[chosen], level.rows[chosen], level.slopes[chosen]
    shift, farthest = start, FARTHEST / level.shrunk
    for _ in range(2):
        there = _at(page, x=columns + shift[0], y=rows + shift[1])
        error, weight = _errors(level.strength[chosen], there)
        square = (slopes * weight[:, None]).T @ slopes
        square += np.eye(2) * STIFF * np.trace(square)
        step = np.linalg.lstsq(square, slopes.T @ (weight * error), rcond=None)[0]
        shift = (shift + step).clip(-farthest, farthest)
    return shift


def _at(image: Image, *, x: Array, y: Array) -> Any:
    """Return an image's values between its pixels."""
    maps = x.astype(np.float32)[None], y.astype(np.float32)[None]
    return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
