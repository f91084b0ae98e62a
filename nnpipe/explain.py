"""The stages of the preprocessing of a picture, drawn side by side."""

import io

import numpy as np
from PIL import Image, ImageDraw

from nnpipe.preprocess import Grey, Picture, Pixels, Prepared, prepare

HEIGHT, MARGIN, CAPTION = 280, 8, 18
"""Pixels: the height of each stage, the space around it, and the height of its name above it."""


def draw_stages(picture: Picture) -> tuple[Prepared, bytes]:
    """Prepare a picture, and draw each stage with its name, as a PNG.

    Raises:
        PictureError: the picture cannot be read.
    """
    stages: list[tuple[str, Image.Image]] = []

    def add(name: str, levels: Grey | Pixels) -> None:
        image = Image.fromarray(np.rint(levels).astype(np.uint8))
        width = min(max(1, round(image.width * HEIGHT / image.height)), 4 * HEIGHT)
        how = Image.Resampling.NEAREST if image.height <= HEIGHT else Image.Resampling.BOX
        stages.append((name, image.resize((width, HEIGHT), how)))

    prepared = prepare(picture, add)
    lefts = np.cumsum([MARGIN, *(max(im.width, HEIGHT // 2) + MARGIN for _, im in stages)]).tolist()
    strip = Image.new("L", (lefts[-1], HEIGHT + CAPTION + 2 * MARGIN), 230)
    draw = ImageDraw.Draw(strip)
    for (name, image), left in zip(stages, lefts, strict=False):
        draw.text((left, MARGIN), name, 0)
        strip.paste(image, (left, MARGIN + CAPTION))
    stream = io.BytesIO()
    strip.save(stream, "PNG")
    return prepared, stream.getvalue()
