"""Files, bytes, Pillow images and arrays → upright pictures, and their brightness."""

import io
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nnpipe.errors import PictureError
from nnpipe.pages import Page
from nnpipe.preprocess.decoders import (
    ENOUGH,
    FORMATS,
    PILLOW_FORMATS,
    Opened,
    check_size,
    damage_noticed,
    decode,
    decode_page,
)

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of the largest file that is read."""

PIPE_SECONDS = 60
"""Seconds to wait for the first byte from a pipe."""

TOO_LARGE = f"the file has more than the {MAX_BYTES >> 20} MiB that are read"

ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)
"""The EXIF tag of the orientation, and its values for a picture that lies on its side."""

Grey = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Picture = str | Path | bytes | IO[bytes] | Page | Opened | Image.Image | npt.NDArray[np.generic]


def open_picture(picture: Picture, *, enough: int = ENOUGH) -> Opened:
    """Decode a picture, and turn it upright by its EXIF orientation.

    Args:
        picture: see `Picture`.
        enough: pixels of the longer side that suffice.

    Raises:
        PictureError: it cannot be read as a picture.
    """
    if isinstance(picture, Opened):
        return picture
    if isinstance(picture, Page):
        return _upright(decode_page(picture, enough=enough))
    if isinstance(picture, np.ndarray):
        picture = from_array(picture)
    if isinstance(picture, Image.Image):
        _load(picture)
        return _upright(Opened(picture, *picture.size, ""))
    if isinstance(picture, (str, Path)):
        picture = read_file(picture)
    if isinstance(picture, (bytes, bytearray)):
        picture = io.BytesIO(picture)
    elif not isinstance(picture, io.BytesIO):
        picture = io.BytesIO(_read_stream(picture))
    return _upright(decode(picture, enough=enough))


def _load(image: Image.Image) -> None:
    """Load the pixels of an image that the caller has opened or made."""
    if image.format and image.format not in PILLOW_FORMATS:
        raise PictureError(
            f"the Pillow image is in the format {image.format}, not in one that nnpipe reads "
            f"({FORMATS}); convert it first"
        )
    check_size(image)
    with damage_noticed():
        try:
            image.load()
        except (ValueError, TypeError, AttributeError, AssertionError):
            raise PictureError("the Pillow image was closed before it was loaded") from None


def _read_stream(stream: IO[bytes]) -> bytes:
    """Read an open file from its current position."""
    try:
        content = stream.read(MAX_BYTES + 1)
    except AttributeError:
        raise PictureError(
            f"an object of the type {type(stream).__name__} is no picture; expected a path, bytes, "
            "an open file, a Pillow image or an array"
        ) from None
    except (OSError, ValueError) as error:
        raise PictureError(f"the file cannot be read: {error}") from None
    if not isinstance(content, bytes):
        raise PictureError("the file is not open for bytes; open it with the mode 'rb'")
    if len(content) > MAX_BYTES:
        raise PictureError(TOO_LARGE)
    return content


def _upright(opened: Opened) -> Opened:
    image, width, height, note, _, whole = opened
    if not image.info:  # which holds the orientation, if any
        return opened
    try:
        if image.getexif().get(ORIENTATION) in SIDEWAYS:
            width, height = height, width
        turned = ImageOps.exif_transpose(image)
        decode = whole and (lambda: ImageOps.exif_transpose(whole()))
        return Opened(turned, width, height, note, opened.damage, decode)
    except MemoryError:
        raise
    except Exception:  # Pillow's parser can raise anything
        wrong = "the EXIF data are damaged, so the picture may lie on its side"
        return opened._replace(note=f"{note}; {wrong}" if note else wrong)


def from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """Make a Pillow image of an array.

    Raises:
        PictureError: a picture cannot have its shape or type.
    """
    if array.ndim in (2, 3):
        if not array.size:
            raise PictureError("the picture has no pixels")
        kind, bytes_each = array.dtype.kind, array.dtype.itemsize
        if kind in "iu":  # results of calculations often have a wider type than they need
            low, high = int(array.min()), int(array.max())
            if array.ndim == 3 and 0 <= low <= high <= 255:
                array = array.astype(np.uint8)
            elif bytes_each > 2:
                array = array.astype(np.int32 if -(2**31) <= low <= high < 2**31 else np.float64)
        elif kind == "f" and bytes_each not in (4, 8):
            array = array.astype(np.float64)
        with suppress(TypeError, ValueError):
            return Image.fromarray(array)
    raise PictureError(
        f"an array of shape {array.shape} and type {array.dtype} is no picture; expected (h, w), "
        "(h, w, 3) or (h, w, 4), best of uint8"
    )


def read_file(path: str | bytes | Path, *, regular: bool = False) -> bytes:
    """Read the bytes of a file.

    Args:
        path: the file.
        regular: refuse pipes, sockets and devices, which may never end.

    Raises:
        PictureError: the file cannot be read, is empty, or is too large to be a picture.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        stream = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            about = os.fstat(stream)
            if regular and not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
                raise PictureError("this is neither file nor folder")
            pipe = stat.S_ISFIFO(about.st_mode)
            if pipe and not select.select([stream], [], [], PIPE_SECONDS)[0]:
                raise PictureError(f"nothing came out of this pipe for {PIPE_SECONDS} seconds")
            os.set_blocking(stream, True)
            size, content = about.st_size, b""
            if size <= MAX_BYTES:
                content = os.read(stream, size + 1)
                if len(content) != size:  # the size of a pipe is 0
                    with open(stream, "rb", closefd=False) as rest:
                        content += rest.read(MAX_BYTES + 1 - len(content))
        finally:
            os.close(stream)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except IsADirectoryError:
        raise PictureError("this is a folder", advice="score") from None
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror or error}") from error
    if max(size, len(content)) > MAX_BYTES:
        raise PictureError(TOO_LARGE)
    if not content:
        raise PictureError("the file is empty")
    return content


def grey(image: Image.Image, *, enough: int = ENOUGH) -> Grey:
    """Return the brightness of each pixel, shape (h, w), in 0…255; transparent parts become paper.

    The paper contrasts with the visible ink: black paper for bright ink, white paper for dark ink.
    The picture is reduced, but not below ``enough`` pixels of its longer side.
    """
    shrink = max(1, max(image.size) // enough)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = Image.fromarray(np.asarray(image, np.float32)).reduce(shrink)
        return from_depth(np.asarray(deep, np.float64))
    if image.mode == "LAB":  # which Pillow cannot convert
        return np.asarray(image.getchannel(0).reduce(shrink), np.float32)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L").reduce(shrink), np.float32)
    rgba = image.convert("RGBA").reduce(shrink)
    levels = np.asarray(rgba.convert("L"), np.float32)
    alpha = np.asarray(rgba.getchannel("A"), np.float32) / 255
    visible = alpha.sum()
    bright = visible > 0 and (levels * alpha).sum() / visible > 127
    paper = 0.0 if bright and alpha.min() < 0.5 else 255.0
    return (levels * alpha + paper * (1 - alpha)).astype(np.float32)


def closer_look(opened: Opened) -> Callable[[tuple[float, float, float, float]], Grey]:
    """Return a function that returns the brightness of a part of a picture, in its own pixels.

    Its argument is the part: left, top, right and bottom, as shares of the picture. A picture that
    was decoded at a fraction of its size is decoded fully, once.
    """

    @cache
    def whole() -> Image.Image:
        return opened.decode_fully() if opened.decode_fully else opened.image

    def look(box: tuple[float, float, float, float]) -> Grey:
        image = whole()
        sides = (image.width, image.height) * 2
        left, top, right, bottom = (round(s * side) for s, side in zip(box, sides, strict=True))
        part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        part.info = image.info  # which holds the transparency of some
        return grey(part)

    return look


def from_depth(levels: npt.NDArray[np.float64]) -> Grey:
    """Scale 16-bit, 32-bit and float levels to 0…255; a faint picture stays faint.

    White is 1 if no level is higher. Otherwise it is the largest number of 8, 10, 12, 14, 16 or 32
    bits, as few as the brightest pixel needs. If a level is negative, or higher than all of these,
    the range of the levels is scaled.
    """
    levels = np.nan_to_num(levels, nan=0, posinf=0, neginf=0)
    low, high = float(levels.min()), float(levels.max())
    whites = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 32)))
    white = next((white for white in whites if high <= white), 0.0)
    if low < 0 or not white:
        levels, white = levels - low, high - low
    return np.asarray(levels * (255 / white if white else 0.0), np.float32)
