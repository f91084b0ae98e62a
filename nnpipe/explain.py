"""How a picture becomes what the network sees, stage by stage, as a picture."""

import io

import numpy as np
from PIL import Image, ImageDraw

from nnpipe.preprocess import Grey, Picture, Pixels, Prepared, prepare

HEIGHT = 280
MARGIN = 8
CAPTION = 18


def draw_stages(picture: Picture) -> tuple[Prepared, bytes]:
    """Prepare a picture, and draw the stages side by side, each with its name, as a PNG.

    Raises:
        PictureError: the picture cannot be read.
    """
    stages: list[tuple[str, Image.Image]] = []

    def keep(name: str, levels: Grey | Pixels) -> None:
        image = Image.fromarray(np.rint(levels).astype(np.uint8))
        width = min(max(1, round(image.width * HEIGHT / image.height)), 4 * HEIGHT)
        size = width, HEIGHT
        how = Image.Resampling.NEAREST if image.height <= HEIGHT else Image.Resampling.BOX
        stages.append((name, image.resize(size, how)))

    prepared = prepare(picture, keep)
    widths = [max(image.width, HEIGHT // 2) + MARGIN for _, image in stages]
    strip = Image.new("L", (sum(widths) + MARGIN, HEIGHT + CAPTION + 2 * MARGIN), 230)
    draw = ImageDraw.Draw(strip)
    left = MARGIN
    for (name, image), width in zip(stages, widths, strict=True):
        draw.text((left, MARGIN), name, 0)
        strip.paste(image, (left, MARGIN + CAPTION))
        left += width
    stream = io.BytesIO()
    strip.save(stream, "PNG")
    return prepared, stream.getvalue()
