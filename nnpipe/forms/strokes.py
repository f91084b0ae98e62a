"""The dark strokes of a page: its print and its writing, in even light."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.forms.geometry import Array
from nnpipe.preprocess.pictures import Pixels

Image = npt.NDArray[np.float32]

SIDE = 1000
"""Pixels of the longer side at which a page is aligned; a millimetre of A4 has 3.4."""

ROOM = 61
"""Side of the square whose mean is the paper, in pixels."""

THICK = 17
"""Width of a dark area that is no stroke, such as what lies around the paper, in pixels."""

STRONG = 0.12
"""Strength above which a pixel is print, where the strongest print has 1."""


def small(levels: Pixels) -> tuple[Pixels, Array]:
    """Return a picture at the common scale, and the matrix from its pixels to those."""
    factor = SIDE / max(levels.shape)
    # Multiples of 4 have a half and a quarter.
    size = [4 * max(1, round(side * factor / 4)) for side in levels.shape[::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    shares = np.array(size) / levels.shape[::-1]
    return cv2.resize(levels, size, interpolation=way), scaling(*shares.tolist())


def scaling(x: float, y: float) -> Array:
    """Return the matrix from a picture's pixels to those of the same one of another size.

    The middle of the first pixel is at 0, as in OpenCV, so that its corner is at -0.5.
    """
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def even_light(levels: Pixels) -> tuple[Pixels, Image]:
    """Return a picture in even light, and the strength of its strokes, 0…1."""
    paper = cv2.blur(levels.astype(np.float32), (ROOM, ROOM), borderType=cv2.BORDER_REPLICATE)
    dark = (paper - levels) / np.maximum(paper, 8)
    even = (170 - 120 * dark).clip(0, 255).astype(np.uint8)
    dark -= cv2.morphologyEx(blurred(dark, 1.5), cv2.MORPH_OPEN, np.ones((THICK,) * 2, np.uint8))
    strong = dark[dark > 0.1]
    full = max(float(np.percentile(strong, 80)) if len(strong) else 1.0, 0.15)
    return even, ((dark - 0.04) / full).clip(0, 1).astype(np.float32)


def shrunken(strength: Image) -> dict[int, Image]:
    """Return the strength of a page's strokes, and the same of a half and a quarter of its size."""
    height, width = strength.shape
    return {1: strength} | {
        n: cv2.resize(strength, (width // n, height // n), interpolation=cv2.INTER_AREA)
        for n in (2, 4)
    }


def blurred(image: Image, blur: float) -> Any:
    """Return a picture blurred by a Gaussian; its deviation is in pixels."""
    return cv2.GaussianBlur(image, (0, 0), blur)


def warped(image: Image, matrix: Array, *, shape: tuple[int, ...]) -> Any:
    """Return a picture of the page as the reference shows it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, matrix, shape[::-1], flags=flags)
