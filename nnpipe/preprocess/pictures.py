"""Files, bytes, Pillow images and arrays → upright pictures of brightness."""

import io
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from nnpipe.errors import PictureError

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: some are bombs made to fill the memory."""

MAX_BYTES = 256 * 1024 * 1024
"""Larger files are refused before they are read."""

TOO_LARGE = f"the file has more than the {MAX_BYTES >> 20} MiB that are read"

ENOUGH = 250
"""Pictures of twice as many pixels a side, or more, are shrunk to between one and two times this:
finer detail costs time and tells nothing."""

PNG = b"\x89PNG\r\n\x1a\n"
"""What every PNG file begins with."""

ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)
"""EXIF's tag, and those of its values that stand for a picture lying on its side."""

Grey = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Picture = str | Path | bytes | io.BytesIO | Image.Image | npt.NDArray[np.generic]


class Opened(NamedTuple):
    """A decoded picture, upright."""

    image: Image.Image  # large JPEGs are decoded at a fraction of their size
    width: int  # of the whole picture
    height: int
    note: str  # what was left out; empty if nothing


def open_picture(picture: Picture) -> Opened:
    """Open and decode a picture, and turn it upright as its EXIF orientation says."""
    if isinstance(picture, (str, Path)):
        picture = read_file(picture)
    if isinstance(picture, bytes):
        picture = io.BytesIO(picture)
    if isinstance(picture, io.BytesIO):
        # Pillow would try one format after the other, and PNG, which most pictures are, last.
        opening = PngImageFile if picture.read(len(PNG)) == PNG else Image.open
        picture.seek(0)
        image: Image.Image = opening(picture)
    elif isinstance(picture, np.ndarray):
        image = from_array(picture)
    else:
        image = picture
    width, height = image.size
    if not width * height:
        raise PictureError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError
    # The second picture in a camera's MPO file is a smaller one of the same, or its depths.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    note = ""
    if image is not picture:
        note = f"the first of {frames} frames was read" if frames > 1 else ""
        if image.format in ("JPEG", "MPO"):
            # It can be decoded in grey, at 1/2, 1/4 or 1/8 of its size, in a fraction of the time.
            part = next((n for n in (8, 4, 2) if max(image.size) >= n * ENOUGH), 1)
            image.draft("L" if image.mode == "RGB" else None, (width // part, height // part))
    image.load()  # till now, only the header was read
    if image.info:  # where all formats keep the orientation, if they know one
        if image.getexif().get(ORIENTATION) in SIDEWAYS:
            width, height = height, width
        image = ImageOps.exif_transpose(image)
    return Opened(image, width, height, note)


def from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """Take an array as a picture.

    Raises:
        PictureError: it has another shape or type than a picture's.
    """
    if array.ndim in (2, 3):
        with suppress(TypeError, ValueError):
            return Image.fromarray(array)
    raise PictureError(
        f"an array of shape {array.shape} and type {array.dtype} is no picture; expected (h, w), "
        "(h, w, 3) or (h, w, 4), best of uint8"
    )


def read_file(path: str | bytes | Path, regular: bool = False) -> bytes:
    """Read a file's bytes.

    Args:
        path: where it lies.
        regular: refuse what is no regular file, such as a pipe, which may never end.

    Raises:
        PictureError: it cannot be read, is empty, or too large to be a picture.
    """
    try:
        # A pipe that nobody writes to is not waited for if it is to be refused anyway.
        stream = os.open(path, os.O_RDONLY | (os.O_NONBLOCK if regular else 0))
        try:
            about = os.fstat(stream)
            if regular and not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
                raise PictureError("this is neither file nor folder")
            size, content = about.st_size, b""
            if size <= MAX_BYTES:
                content = os.read(stream, size + 1)
                if len(content) != size:  # a pipe tells no size, and gives what it has
                    with open(stream, "rb", closefd=False) as rest:
                        content += rest.read(MAX_BYTES + 1 - len(content))
        finally:
            os.close(stream)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except IsADirectoryError:
        raise PictureError("this is a folder; score folders with 'nnpipe score'") from None
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror or error}") from error
    if max(size, len(content)) > MAX_BYTES:
        raise PictureError(TOO_LARGE)
    if not content:
        raise PictureError("the file is empty")
    return content


def grey(image: Image.Image) -> Grey:
    """Brightness of each pixel, shape (h, w), in 0…255; transparent parts become paper.

    Behind what is transparent lies paper that the ink stands out from: black behind bright ink,
    white behind dark.
    """
    shrink = max(1, max(image.size) // ENOUGH)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = Image.fromarray(np.asarray(image, np.float32)).reduce(shrink)
        return from_depth(np.asarray(deep, np.float64))
    if image.mode == "LAB":  # which Pillow does not convert
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


def from_depth(levels: npt.NDArray[np.float64]) -> Grey:
    """Bring 16-bit, 32-bit and float levels to 0…255, keeping a faint picture's contrast faint.

    White is 1 for floats in [0, 1], and otherwise the largest number of as many bits (8, 10, 12,
    14, 16 or 32) as the brightest pixel needs. What is negative or larger still has no white; its
    own range is taken.
    """
    levels = np.nan_to_num(levels, nan=0, posinf=0, neginf=0)
    low, high = float(levels.min()), float(levels.max())
    whites = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 32)))
    white = next((white for white in whites if high <= white), 0.0)
    if low < 0 or not white:
        levels, white = levels - low, high - low
    return np.asarray(levels * (255 / white if white else 0.0), np.float32)
