"""Pictures of a page with its fields drawn on it, for people to look at."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from nnpipe.preprocess.pictures import Pixels

LONGEST = 2000
"""Pixels of the longer side of a drawing."""

Colour = tuple[int, int, int]

GREEN, AMBER, RED, BLUE = (0, 130, 40), (215, 120, 0), (205, 20, 20), (0, 70, 200)
"""Colours of fields that are read, that need a look, that are not read, and that are proposed."""


class Mark(NamedTuple):
    """A field on a page."""

    corners: npt.NDArray[np.float64]  # (4, 2), in pixels of the page
    text: str
    colour: Colour


def draw(levels: Pixels, marks: Sequence[Mark]) -> bytes:
    """Draw fields on a page, each with a text above it, as a PNG.

    Args:
        levels: the page, (h, w).
        marks: the fields.
    """
    page = Image.fromarray(levels)
    scale = LONGEST / max(page.size)
    size = max(1, round(page.width * scale)), max(1, round(page.height * scale))
    sheet = page.resize(size, Image.Resampling.LANCZOS).convert("RGB")
    pen = ImageDraw.Draw(sheet)
    for corners, text, colour in marks:
        points = corners * scale
        pen.polygon([(float(x), float(y)) for x, y in points], outline=colour, width=3)
        height = float(np.ptp(points[:, 1]))
        font = ImageFont.load_default(min(max(0.4 * height, 11), 22))
        left, top = points.min(axis=0).tolist()
        box = pen.textbbox((left, top - 2), text, font=font, anchor="lb")
        pen.rectangle(box, fill="white")
        pen.text((left, top - 2), text, colour, font=font, anchor="lb")
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()
