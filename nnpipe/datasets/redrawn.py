"""Digits of a data set, each written with another pen and drawn as `preprocess` draws pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from nnpipe.errors import DatasetError, ProcessError
from nnpipe.preprocess import SIDE, Pixels, drawing
from nnpipe.processes import cores, over

BATCH = 1000
"""Pictures that a worker process gets at once; no more than these are drawn without any."""

SECONDS = 600
"""Seconds that a batch may take; a third of one is usual."""


class Pen(NamedTuple):
    """How a digit is written."""

    stretch: float  # its width, as a multiple
    blur: float  # standard deviation in pixels of a picture four times as large
    cut: float  # where the stroke's edge lies, in grey levels: how wide it is
    contrast: float  # how steep the edge is


def choose_pen(rng: np.random.Generator) -> Pen:
    """Any pen, and proportions as they are, or as in tight scans."""
    much = rng.random() < 0.5
    stretch = np.exp(rng.uniform(0, np.log(1.8)) if much else rng.normal(0, 0.1))
    return Pen(float(stretch), rng.uniform(0, 2), rng.uniform(50, 190), rng.uniform(2, 8))


def redraw(image: Pixels, pen: Pen) -> Pixels:
    """Enlarge a digit, write it with a pen, and draw it as `preprocess` draws what it finds.

    Args:
        image: shape (28, 28), as MNIST has it.
        pen: if it leaves nothing of the digit, the digit stays as it is.
    """
    large = Image.fromarray(image).resize(
        (round(4 * SIDE * pen.stretch), 4 * SIDE), Image.Resampling.BICUBIC
    )
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(pen.blur)), np.float32)
    ink = ((soft - pen.cut) * pen.contrast + 127).clip(0, 255)
    return drawing.draw(ink) if ink.max() == 255 else image


def redraw_all(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Redraw images of shape (n, 28, 28); the same state of ``rng`` gives the same pictures.

    Many are drawn by one process for each core.

    Raises:
        DatasetError: a worker process died of a batch, again and again.
    """
    # Pens are chosen here, so that nothing depends on which process draws what.
    pens = [choose_pen(rng) for _ in images]
    starts = range(0, len(images), BATCH)
    parts = [(images[i : i + BATCH], pens[i : i + BATCH]) for i in starts]
    if len(parts) < 2:
        return np.concatenate([_redraw(part) for part in parts])
    try:
        done = list(over(_redraw, parts, seconds=SECONDS, workers=cores()))
        for part in done:
            if isinstance(part, ProcessError):
                raise part
    except ProcessError as error:
        raise DatasetError(
            f"a process that redraws digits has ended ({error}); give the machine more memory"
        ) from None
    return np.concatenate(done)


def _redraw(part: tuple[Pixels, Sequence[Pen]]) -> Pixels:
    return np.stack([redraw(image, pen) for image, pen in zip(*part, strict=True)])
