"""Any picture of a digit → the 28×28 pixels MNIST would have drawn.

MNIST's makers fitted each digit into 20×20 pixels, keeping its shape, and put its centre of mass
in the middle of 28×28 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document
Recognition", section III.A). A network trained on MNIST reads only what looks like that. The way
there, each step in a module or a small function with a name:

    pictures.open_picture → paper.ink → components.choose → drawing.draw
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.preprocess import paper
from nnpipe.preprocess.components import choose
from nnpipe.preprocess.decoders import Opened, damaged
from nnpipe.preprocess.drawing import SIDE, as_mnist, draw
from nnpipe.preprocess.pictures import (
    MAX_BYTES,
    TOO_LARGE,
    Grey,
    Picture,
    Pixels,
    grey,
    open_picture,
    read_file,
)

__all__ = [
    "MAX_BYTES",
    "PREPROCESSING_VERSION",
    "SECONDS",
    "SIDE",
    "TOO_LARGE",
    "Grey",
    "Picture",
    "Pixels",
    "Prepared",
    "as_inputs",
    "prepare",
    "prepare_many",
    "read_file",
]

PREPROCESSING_VERSION = 2
"""Kept in the weights file. A change in what the network sees raises it with the next champion."""

WAITING = PictureError("not looked at yet")

SECONDS = 30
"""Seconds that one picture may take, where a process of its own prepares it."""

BLANK: Pixels = np.zeros((SIDE, SIDE), np.uint8)

TOGETHER = 128
"""So many pictures of 28×28 pixels are looked at together."""

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
        picture: a path, the bytes of a file, a file open in the mode ``"rb"``, a Pillow image, or
            an array of shape (h, w), or of shape (h, w, 3 or 4) and type uint8.
        trace: is called with the name and the picture, in 0…255, of each stage.

    Raises:
        PictureError: it cannot be read as a picture; the message says why, without a path.
    """
    (prepared,) = prepare_many([picture], trace)
    if isinstance(prepared, PictureError):
        raise prepared
    return prepared


def prepare_many(
    pictures: Iterable[Picture | PictureError],
    trace: Trace | None = None,
    *,
    at: Callable[[int], None] = lambda number: None,
) -> list[Prepared | PictureError]:
    """Do what `prepare` does with many pictures, and keep their order.

    An error takes the place of the picture that has it, be it found here or handed in.

    Args:
        pictures: pictures, or errors in their place.
        trace: as that of `prepare`.
        at: is called with the number of a picture, counted from 0, before any work on it, and with
            −1 after that work. A picture may be worked on twice: it is opened, and drawn later.
    """
    results: list[Prepared | PictureError] = []
    # 28×28 pictures come in millions, and MNIST may have drawn them. That takes a tenth of the time
    # to find out when it is done for many together: they wait, side by side on one sheet.
    sheet = Image.new("L", (SIDE, SIDE * TOGETHER))
    waiting: list[tuple[int, str]] = []

    def read_sheet() -> None:
        levels = np.asarray(sheet).reshape(TOGETHER, SIDE, SIDE)[: len(waiting)]
        for (number, note), level, pixels in zip(waiting, levels, as_mnist(levels), strict=True):
            if pixels is None:
                at(number)
                opened = Opened(Image.fromarray(level), SIDE, SIDE, note)
                results[number] = _attempt(_draw_digit, opened, trace)
                at(-1)
            else:
                results[number] = Prepared(pixels, SIDE, SIDE, "", note)
        waiting.clear()

    for number, picture in enumerate(pictures):
        at(number)
        opened = picture if isinstance(picture, PictureError) else _attempt(open_picture, picture)
        if isinstance(opened, PictureError):
            results.append(opened)
        elif trace or opened.damage or not _is_small(opened.image):
            results.append(_attempt(_draw_digit, opened, trace))
        else:
            sheet.paste(opened.image, (0, SIDE * len(waiting)))
            waiting.append((number, opened.note))
            results.append(WAITING)
        at(-1)
        if len(waiting) == TOGETHER:
            read_sheet()
    read_sheet()
    return results


T = TypeVar("T")


def _attempt(step: Callable[..., T], *args: object) -> T | PictureError:
    """Take a step, and return the error where it fails."""
    try:
        return step(*args)
    except PictureError as error:
        return error
    except MemoryError:
        return PictureError("the picture takes more memory than can be had")
    except Exception as error:  # one odd picture must not end the reading of a million others
        return damaged(error)


def _is_small(image: Image.Image) -> bool:
    """Whether there is nothing to shrink, convert or put onto paper before it is looked at."""
    return image.size == (SIDE, SIDE) and image.mode == "L" and "transparency" not in image.info


def _draw_digit(opened: Opened, trace: Trace | None) -> Prepared:
    """Find the digit and draw it as MNIST has it, or say why there is none."""
    show = trace or (lambda name, stage: None)
    levels = grey(opened.image)
    show("brightness", levels)
    refusal = ""
    shown = as_mnist(levels[np.newaxis])[0] if levels.shape == (SIDE, SIDE) else None
    if shown is None:
        found = paper.ink(levels)
        if found is None:
            shown, refusal = BLANK.copy(), "blank: nothing stands out from the paper"
        else:
            show("ink", found.strength)
            choice = choose(found.strength, found.drawing)
            show("digit", choice.strength)
            shown = draw(choice.strength) if choice.strength.any() else BLANK.copy()
            refusal = choice.refusal
    show("what the network sees", shown)
    return Prepared(shown, opened.width, opened.height, opened.damage or refusal, opened.note)


def as_inputs(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels of shape (n, 28, 28) in 0…255 → the network's inputs, (n, 784) float32 in [0, 1]."""
    return np.asarray(pixels.reshape(len(pixels), SIDE * SIDE) / np.float32(255))
