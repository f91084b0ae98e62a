"""Digits of a data set, rewritten with random pens and drawn as `preprocess` draws pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from nnpipe.errors import DatasetError, ProcessError
from nnpipe.preprocess import SIDE, Pixels, drawing
from nnpipe.processes import cores, over

BATCH = 1000
"""Pictures per task of a worker process; up to this many are drawn without worker processes."""

SECONDS = 600
"""Time limit of a batch, which usually takes a third of a second."""


class Pen(NamedTuple):
    """How a digit is written."""

    stretch: float  # factor of its width
    blur: float  # standard deviation, in pixels of a picture four times as large
    cut: float  # grey level of the stroke's edge: a low one makes strokes wide
    contrast: float  # steepness of the edge


def choose_pen(rng: np.random.Generator) -> Pen:
    """Choose a random pen; half of them stretch digits, as tight scans do."""
    much = rng.random() < 0.5
    stretch = np.exp(rng.uniform(0, np.log(1.8)) if much else rng.normal(0, 0.1))
    return Pen(float(stretch), rng.uniform(0, 2), rng.uniform(50, 190), rng.uniform(2, 8))


def redraw(image: Pixels, pen: Pen) -> Pixels:
    """Enlarge a digit, rewrite it with a pen, and draw it as `preprocess` does.

    Args:
        image: shape (28, 28), like MNIST's.
        pen: if it erases the digit, the digit stays as it is.
    """
    size = round(4 * SIDE * pen.stretch), 4 * SIDE
    large = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(pen.blur)), np.float32)
    ink = ((soft - pen.cut) * pen.contrast + 127).clip(0, 255)
    return drawing.draw(ink) if ink.max() == 255 else image


def redraw_all(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Redraw images of shape (n, 28, 28); the same state of ``rng`` gives the same pictures.

    Raises:
        DatasetError: worker processes crashed repeatedly.
    """
    pens = [choose_pen(rng) for _ in images]  # here, so that the processes do not matter
    starts = range(0, len(images), BATCH)
    batches = [(images[i : i + BATCH], pens[i : i + BATCH]) for i in starts]
    if len(batches) < 2:
        return np.concatenate([_redraw(batch) for batch in batches])
    try:
        results = list(over(_redraw, batches, seconds=SECONDS, workers=cores()))
        for result in results:
            if isinstance(result, ProcessError):
                raise result
    except ProcessError as error:
        raise DatasetError(
            f"a process that redraws digits has ended ({error}); give the machine more memory"
        ) from None
    return np.concatenate(results)


def _redraw(batch: tuple[Pixels, Sequence[Pen]]) -> Pixels:
    return np.stack([redraw(image, pen) for image, pen in zip(*batch, strict=True)])
