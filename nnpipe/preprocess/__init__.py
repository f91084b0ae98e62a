"""Any picture of a digit → the 28×28 pixels MNIST would have drawn.

MNIST's makers fitted each digit into 20×20 pixels, keeping its shape, and put its centre of mass
in the middle of 28×28 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document
Recognition", section III.A). A network trained on MNIST reads only what looks like that. The way
there, each step in a module or a small function with a name:

    pictures.open_picture, grey → paper.ink → components.choose → drawing.draw
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from nnpipe.errors import PictureError
from nnpipe.preprocess import paper
from nnpipe.preprocess.components import choose
from nnpipe.preprocess.drawing import SIDE, Pixels, draw, looks_like_mnist
from nnpipe.preprocess.pictures import MAX_PIXELS, Grey, Picture, grey, open_picture, read_file

__all__ = [
    "PREPROCESSING_VERSION",
    "SIDE",
    "Grey",
    "Picture",
    "Pixels",
    "Prepared",
    "as_inputs",
    "prepare",
    "read_file",
]

PREPROCESSING_VERSION = 2
"""Kept in the weights file. A change in what the network sees raises it with the next champion."""

BLANK: Pixels = np.zeros((SIDE, SIDE), np.uint8)

Trace = Callable[[str, Grey | Pixels], None]


class Prepared(NamedTuple):
    """What the network is shown of a picture."""

    pixels: Pixels  # (28, 28), white ink on black
    width: int  # of the picture, in its own pixels, upright
    height: int
    refusal: str = ""  # why this is not one digit; empty if it may be one
    note: str = ""  # what the reader should know, refused or not


def prepare(picture: Picture, trace: Trace | None = None) -> Prepared:
    """Read a picture and draw its digit the way MNIST would have.

    A 28×28 picture that already looks like MNIST's passes unchanged, or inverted if its paper is
    white.

    Args:
        picture: a path, the bytes of a file, a Pillow image, or an array of shape (h, w) or
            (h, w, 3 or 4), as Pillow's ``Image.fromarray`` takes it.
        trace: is called with the name and the picture, in 0…255, of each stage.

    Raises:
        PictureError: it cannot be read as a picture; the message says why, without a path.
    """
    show = trace or (lambda name, stage: None)
    try:
        opened = open_picture(picture)
        levels = grey(opened.image)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("this is not a picture in a format that Pillow knows") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(
            f"the picture has more than the {MAX_PIXELS // 10**6} million pixels that are read; "
            "make it smaller"
        ) from None
    # Pillow's plug-ins raise whatever their parsers meet in a damaged file. One such picture must
    # not end the reading of a million others.
    except Exception as error:
        raise PictureError(f"the picture is damaged: {error or type(error).__name__}") from error
    show("brightness", levels)
    pixels, refusal = _draw_digit(levels, show)
    show("what the network sees", pixels)
    return Prepared(pixels, opened.width, opened.height, refusal, opened.note)


def _draw_digit(levels: Grey, show: Trace) -> tuple[Pixels, str]:
    """The digit as MNIST has it, and why it is none."""
    for mnist_like in (levels, 255 - levels) if levels.shape == (SIDE, SIDE) else ():
        if looks_like_mnist(mnist_like):
            return np.rint(mnist_like).astype(np.uint8), ""
    found = paper.ink(levels)
    if found is None:
        return BLANK.copy(), "blank: nothing stands out from the paper"
    show("ink", found.strength)
    choice = choose(found.strength, found.drawing)
    show("digit", choice.strength)
    if not choice.strength.any():
        return BLANK.copy(), choice.refusal
    return draw(choice.strength), choice.refusal


def as_inputs(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels of shape (n, 28, 28) in 0…255 → the network's inputs, (n, 784) float32 in [0, 1]."""
    return np.asarray(pixels.reshape(len(pixels), SIDE * SIDE) / np.float32(255))
