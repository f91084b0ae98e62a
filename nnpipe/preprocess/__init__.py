"""Any picture of a digit → the 28×28 pixels MNIST would have drawn.

MNIST's makers scaled each digit to fit 20×20 pixels, kept its shape, and put its centre of mass
in the middle of 28×28 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document
Recognition", section III.A). A network trained on MNIST reads only what looks like that. A picture
that looks like it passes unchanged; any other can be understood in several ways, and each is a
candidate. Each step is a module:

    pictures.open_picture → paper.ink → lines.remove → marks.choose → drawing.draw
                            ╰────────────── hypotheses.ways ─────╯
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.preprocess.decoders import Opened, damaged
from nnpipe.preprocess.mnist_like import AS_IT_IS, SIDE, as_mnist
from nnpipe.preprocess.pictures import (
    Grey,
    Picture,
    Pixels,
    closer_look,
    grey,
    open_picture,
    read_file,
)

__all__ = [
    "SIDE",
    "Candidate",
    "Grey",
    "Picture",
    "Pixels",
    "Prepared",
    "prepare",
    "prepare_many",
    "read_file",
]

PREPROCESSING_VERSION = 3
"""Version of the preprocessing, which weights files record. After a change it is raised together
with the first champion that was trained on the changed pictures."""

SECONDS = 30
"""Time limit of one picture, where a process of its own prepares it."""

NOT_YET = PictureError("not looked at yet")
"""Stands in the place of a picture that waits."""

TOGETHER = 128
"""Pictures of 28×28 pixels that are compared with MNIST's together."""

Trace = Callable[[str, Grey | Pixels], None]
"""Called with the name and the pixels, 0…255, of each stage."""


class Candidate(NamedTuple):
    """One way to understand a picture, as the network is shown it."""

    name: str
    pixels: Pixels  # (28, 28), white ink on black
    refusal: str = ""  # why this is not one digit; empty if it may be one
    odds: float = 1.0  # how much less likely this way is than the simplest one, ≥ 1


class Prepared(NamedTuple):
    """What the network is shown of a picture."""

    candidates: tuple[Candidate, ...]  # at least one, the simplest first
    width: int  # of the picture, in its own pixels, upright
    height: int
    note: str = ""  # what the reader should know, refused or not


class Timed(NamedTuple):
    """A prepared picture, or its error, and the time that it took."""

    result: Prepared | PictureError
    seconds: float


Step = Callable[..., Prepared | PictureError]
T = TypeVar("T")


def prepare(picture: Picture, trace: Trace | None = None) -> Prepared:
    """Read a picture and draw its digit the way MNIST would have.

    A 28×28 picture that already looks like MNIST's passes unchanged, or inverted if its paper is
    white.

    Args:
        picture: a path, the bytes of a file, a file open in the mode ``"rb"``, a Pillow image, or
            an array of shape (h, w), or of shape (h, w, 3 or 4) and type uint8.
        trace: called with each stage.

    Raises:
        PictureError: it cannot be read as a picture; the message says why, without a path.
    """
    ((prepared, _),) = prepare_many([picture], trace=trace)
    if isinstance(prepared, PictureError):
        raise prepared
    return prepared


def prepare_many(
    pictures: Iterable[Picture | PictureError],
    *,
    trace: Trace | None = None,
    on_item: Callable[[int], None] = lambda number: None,
) -> list[Timed]:
    """Do what `prepare` does with many pictures, and keep their order.

    If a picture cannot be read, its error is in its place. Errors among the pictures are passed on.

    Args:
        pictures: pictures, or errors in their place.
        trace: called with each stage.
        on_item: called with the number of a picture, counted from 0, before any work on it, and
            with −1 after that work. A small picture may be worked on twice.
    """
    results: list[Prepared | PictureError] = []
    seconds: list[float] = []
    # 28×28 pictures come in millions, and many look like MNIST's. Checking this for many at once
    # takes a tenth of the time, so they are collected on one sheet.
    sheet = Image.new("L", (SIDE, SIDE * TOGETHER))
    waiting: list[tuple[int, str]] = []

    def work(number: int, step: Step, *arguments: Any) -> None:
        on_item(number)
        start = time.perf_counter()
        results[number] = attempt(step, *arguments)
        seconds[number] += time.perf_counter() - start
        on_item(-1)

    def begin(number: int, picture: Picture | PictureError) -> Prepared | PictureError:
        if isinstance(picture, PictureError):
            return picture
        opened = open_picture(picture)
        if trace or opened.damage or not _is_small(opened.image):
            return _draw_digit(opened, trace)
        sheet.paste(opened.image, (0, SIDE * len(waiting)))
        waiting.append((number, opened.note))
        return NOT_YET

    def read_sheet() -> None:
        levels = np.asarray(sheet).reshape(TOGETHER, SIDE, SIDE)[: len(waiting)]
        for (number, note), level, pixels in zip(waiting, levels, as_mnist(levels), strict=True):
            if pixels is None:
                opened = Opened(Image.fromarray(level), SIDE, SIDE, note)
                work(number, _draw_digit, opened, trace)
            else:
                results[number] = Prepared((Candidate(AS_IT_IS, pixels),), SIDE, SIDE, note)
        waiting.clear()

    for number, picture in enumerate(pictures):
        results.append(NOT_YET)
        seconds.append(0.0)
        work(number, begin, number, picture)
        if len(waiting) == TOGETHER:
            read_sheet()
    read_sheet()
    return list(map(Timed, results, seconds))


def attempt(step: Callable[..., T], *arguments: Any, **options: Any) -> T | PictureError:
    """Take a step, and return the error where it fails."""
    try:
        return step(*arguments, **options)
    except PictureError as error:
        return error
    except MemoryError:
        return PictureError("the picture takes more memory than can be had")
    except Exception as error:  # one odd picture must not end the reading of a million others
        return damaged(error)


def _is_small(image: Image.Image) -> bool:
    """Return True if an image is 28×28, grey and opaque, so that it needs no conversion."""
    return image.size == (SIDE, SIDE) and image.mode == "L" and "transparency" not in image.info


def _draw_digit(opened: Opened, trace: Trace | None) -> Prepared:
    """Draw the digit as MNIST would have in each way that the picture may be understood."""
    show = trace or (lambda name, stage: None)
    levels = grey(opened.image)
    show("brightness", levels)
    pixels = as_mnist(levels[np.newaxis])[0] if levels.shape == (SIDE, SIDE) else None
    if pixels is not None:
        candidates = [Candidate(AS_IT_IS, pixels)]
    else:
        try:
            from nnpipe.preprocess import hypotheses
        except ImportError as error:
            raise PictureError(
                f"this picture needs OpenCV, which cannot be loaded ({error}); "
                "pip install opencv-python-headless"
            ) from None
        candidates = []
        closer = None if opened.damage else closer_look(opened)
        for way in hypotheses.understand(levels, closer):
            show(way.name, way.strength)
            candidates.append(Candidate(way.name, hypotheses.drawn(way), way.refusal, way.odds))
    if opened.damage:
        candidates = [candidates[0]._replace(refusal=opened.damage)]
    return Prepared(tuple(candidates), opened.width, opened.height, opened.note)


def as_inputs(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Turn pixels, (n, 28, 28) in 0…255, into the network's inputs, (n, 784) float32 in [0, 1]."""
    return np.asarray(pixels.reshape(len(pixels), SIDE * SIDE) / np.float32(255))
