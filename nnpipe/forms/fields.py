"""A page → its fields: cut out, upright, without their frames, and in pieces that may be digits."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.forms.description import Field
from nnpipe.forms.frames import erase, has_walls
from nnpipe.forms.geometry import Array, corners, mapped
from nnpipe.numbers import crosses
from nnpipe.numbers.constraints import MOST_DIGITS, Wanted
from nnpipe.numbers.ways import PreparedNumber, prepare
from nnpipe.preprocess import Pixels

MARGIN = 0.2
"""Space around a field in which its frame is looked for, as a share of its height."""

LARGEST_CROP = 3000
"""Pixels of the longer side of a cut field."""


class Cut(NamedTuple):
    """A field that was cut out of a page."""

    pixels: Pixels
    matrix: Array  # (3, 3), pixels of the cut → pixels of the page
    walls: bool  # between all its boxes for a digit each, if it has several


def cells_of(field: Field) -> int:
    """Return how many boxes for a digit a field has; 1 if any number of digits fits."""
    return 1 if field.wanted.most == MOST_DIGITS else field.wanted.most


def cut_out(levels: Pixels, box: Array, *, matrix: Array, reference: Pixels, cells: int) -> Cut:
    """Cut a field with its frame, upright, at the page's own resolution.

    Args:
        levels: the page.
        box: left, top, right and bottom, in pixels of the reference.
        matrix: pixels of the reference → pixels of the page.
        reference: the form's reference.
        cells: boxes for a digit each, or 1.
    """
    margin = MARGIN * (box[3] - box[1])
    left, top, right, bottom = box + np.array([-1, -1, 1, 1]) * margin
    place = mapped(corners([left, top, right, bottom]), matrix)
    sides = np.linalg.norm(np.roll(place, -1, axis=0) - place, axis=1)
    size = [max(sides[n], sides[n + 2]) for n in (0, 1)]
    shrink = min(1, LARGEST_CROP / max(*size, 1))
    width, height = (max(1, round(side * shrink)) for side in size)
    onto = np.array(
        [[(right - left) / width, 0, left], [0, (bottom - top) / height, top], [0, 0, 1]]
    )
    whole = matrix @ onto
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    pixels, printed = (
        cv2.warpPerspective(
            image, way, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        for image, way in ((levels, whole), (reference, onto))
    )
    scaled = margin * height / (bottom - top)
    walls = has_walls(printed, margin=scaled, cells=cells)
    pixels = erase(pixels, printed, margin=scaled, cells=cells, ticks=walls)
    cut = round(scaled)
    shift = np.array([[1, 0, cut], [0, 1, cut], [0, 0, 1]])
    inside = pixels[cut : height - cut or None, cut : width - cut or None]
    return Cut(inside, whole @ shift, walls)


def prepared(cut: Cut, field: Field) -> tuple[Wanted, PreparedNumber]:
    """Cut a field into pieces; also return the numbers that it may show.

    In a row of boxes, those that are filled, and those that are crossed out, show how many digits
    there are.
    """
    wanted, cells = field.wanted, cells_of(field)
    boxes = crosses.look(cut.pixels, cells=cells if cut.walls else 0)
    if boxes.digits == 0:
        height, width = cut.pixels.shape
        return wanted, PreparedNumber((), width, height, refusal=boxes.note)
    if wanted.fewest == wanted.most:
        boxes = crosses.Boxes(cut.pixels)  # no box may be left out
    if boxes.digits and boxes.digits >= wanted.fewest:
        wanted = replace(wanted, fewest=boxes.digits, most=boxes.digits)
    if wanted.fewest < wanted.most:
        cells = 0
    number = prepare(boxes.pixels, separators=bool(wanted.separators), cells=cells)
    return wanted, number._replace(note=boxes.note)
