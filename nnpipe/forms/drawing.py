"""Pictures of a page with its fields drawn on it, for people to look at."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from nnpipe.preprocess.pictures import Pixels

LONGEST = 2000
"""Pixels of the longer side of a drawing."""

DRAWN_BY = "nnpipe form"
"""What a drawing says of itself, so that it may be drawn again."""

Colour = tuple[int, int, int]

GREEN, AMBER, RED, BLUE = (0, 130, 40), (215, 120, 0), (205, 20, 20), (0, 70, 200)
"""Colours of fields that are read, that need a look, that are not read, and that are proposed."""


class Mark(NamedTuple):
    """A field on a page."""

    corners: npt.NDArray[np.float64]  # (4, 2), in pixels of the page
    text: str
    colour: Colour
    inside: bool = False  # whether the text may stand in the field, if there is room


def draw(levels: Pixels, marks: Sequence[Mark]) -> bytes:
    """Draw fields on a page, each with a text beside it, as a PNG.

    A text stands in its field if it may, above it, or on the side where it covers the least of
    other fields.

    Args:
        levels: the page, (h, w).
        marks: the fields.
    """
    page = Image.fromarray(levels)
    scale = LONGEST / max(page.size)
    size = max(1, round(page.width * scale)), max(1, round(page.height * scale))
    sheet = page.resize(size, Image.Resampling.LANCZOS).convert("RGB")
    pen = ImageDraw.Draw(sheet)
    fields = [(*(m.corners.min(axis=0) * scale), *(m.corners.max(axis=0) * scale)) for m in marks]
    occupied = np.array(
        [*fields, (-size[0], -size[1], 0, size[1]), (size[0], 0, 2 * size[0], size[1])]
    )
    for mark, (left, top, right, bottom) in zip(marks, fields, strict=True):
        corners, text, colour, inside = mark
        pen.polygon([(float(x), float(y)) for x, y in corners * scale], outline=colour, width=3)
        font = ImageFont.load_default(min(max(0.4 * (bottom - top), 11), 22))
        middle = (top + bottom) / 2
        places = (
            ((left, top - 3), "lb"),
            ((right + 5, middle), "lm"),
            ((left - 5, middle), "rm"),
            ((left, bottom + 3), "lt"),
        )
        boxes = [pen.textbbox(at, text, font=font, anchor=anchor) for at, anchor in places]
        best = min(range(len(boxes)), key=lambda n: _covered(boxes[n], occupied))
        at, anchor = places[best]
        wide = boxes[best][2] - boxes[best][0]
        if inside and wide < right - left - 6:
            at, anchor = ((left + right) / 2, middle), "mm"
        else:
            pen.rectangle(boxes[best], fill="white")
        pen.text(at, text, colour, font=font, anchor=anchor)
        occupied = np.vstack([occupied, boxes[best]])
    stream = io.BytesIO()
    about = PngInfo()
    about.add_text("Software", DRAWN_BY)
    sheet.save(stream, "PNG", pnginfo=about)
    return stream.getvalue()


def upright(levels: Pixels, marks: Sequence[Mark]) -> tuple[Pixels, list[Mark]]:
    """Turn a page, and the fields on it, by the quarter turns after which the fields are upright.

    Args:
        levels: the page, (h, w).
        marks: the fields; the corners of each are clockwise from its own upper left.
    """
    tops = np.array([mark.corners[1] - mark.corners[0] for mark in marks])
    across, down = np.median(tops, axis=0)
    for _ in range(round(np.arctan2(down, across) / (np.pi / 2)) % 4):
        width = levels.shape[1]
        levels = np.rot90(levels)  # counter-clockwise
        marks = [
            mark._replace(corners=np.column_stack([mark.corners[:, 1], width - mark.corners[:, 0]]))
            for mark in marks
        ]
    return levels, list(marks)


def _covered(box: Sequence[float], others: npt.NDArray[np.float64]) -> float:
    """Return how many pixels of other boxes a box covers; boxes are left, top, right, bottom."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(sides.clip(0).prod(axis=1).sum())


def is_drawing(path: Path) -> bool:
    """Return True for a picture that `draw` made."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == DRAWN_BY
    except (OSError, ValueError, SyntaxError):
        return False
