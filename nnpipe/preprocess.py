"""Any picture of a digit → the 28×28 pixels MNIST would have drawn.

MNIST's makers fitted each digit into 20×20 pixels, keeping its shape, and put its centre of mass
in the middle of 28×28 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document
Recognition", section III.A). A network trained on MNIST reads only what looks like that. Each step
on the way is one small function:

    open_picture → grey → ink → crop → fit → centre
"""

import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from nnpipe.errors import PictureError

PREPROCESSING_VERSION = 1
"""Kept in the weights file; a change in what the network sees raises it."""

SIDE = 28
BOX = 20
"""The digit's longer side, in pixels of the 28×28 picture."""

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: some are bombs made to fill the memory."""

MAX_BYTES = 256 * 1024 * 1024
"""Larger files are refused before they are read."""

MAX_SIDE = 2000
"""Larger pictures are shrunk first: finer detail says nothing about a digit and costs memory."""

MIN_CONTRAST = 24
"""Grey levels, of 255, by which ink must stand out from paper; less is blank."""

Pixels = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]
Picture = str | Path | bytes | Image.Image | npt.NDArray[np.generic]


BLANK: Pixels = np.zeros((SIDE, SIDE), np.uint8)
BLANK.setflags(write=False)


class Prepared(NamedTuple):
    """What the network is shown of a picture."""

    pixels: Pixels  # (28, 28), white ink on black
    width: int  # of the picture, in its own pixels, upright
    height: int

    @property
    def blank(self) -> bool:
        """Whether no ink was found: all pixels are 0."""
        return not self.pixels.any()


def prepare(picture: Picture) -> Prepared:
    """Read a picture and draw its digit the way MNIST would have.

    A 28×28 picture that already looks like MNIST's passes unchanged.

    Args:
        picture: a path, the bytes of a file, a Pillow image, or an array of shape (h, w) or
            (h, w, 3 or 4), as Pillow's ``Image.fromarray`` takes it.

    Raises:
        PictureError: it cannot be read as a picture; the message says why, without a path.
    """
    try:
        image = open_picture(picture)
        levels = grey(image)
        if looks_like_mnist(levels):
            pixels = levels.astype(np.uint8)
        else:
            strength = ink(levels)
            pixels = BLANK if strength is None else centre(fit(crop(strength)))
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
    return Prepared(pixels, image.width, image.height)


def as_inputs(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels of shape (n, 28, 28) in 0…255 → the network's inputs, (n, 784) float32 in [0, 1]."""
    return np.asarray(pixels.reshape(len(pixels), SIDE * SIDE) / np.float32(255))


def open_picture(picture: Picture) -> Image.Image:
    """Open and decode a picture, and turn it upright as its EXIF orientation says."""
    if isinstance(picture, Image.Image):
        image = picture
    elif isinstance(picture, np.ndarray):
        image = Image.fromarray(picture)
    else:
        content = picture if isinstance(picture, bytes) else read_file(Path(picture))
        image = Image.open(io.BytesIO(content))
    if not image.width * image.height:
        raise PictureError("the picture has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    image.load()  # Image.open reads only the header
    return ImageOps.exif_transpose(image)


def read_file(path: Path) -> bytes:
    """Read a file's bytes.

    Raises:
        PictureError: it cannot be read, is empty, or too large to be a picture.
    """
    try:
        with open(path, "rb") as stream:
            # What is no regular file tells no size, and may never end.
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except IsADirectoryError:
        raise PictureError("this is a folder; score folders with 'nnpipe score'") from None
    except OSError as error:
        raise PictureError(f"the file cannot be read: {error.strerror or error}") from error
    if max(size, len(content)) > MAX_BYTES:
        raise PictureError(f"the file has more than the {MAX_BYTES >> 20} MiB that are read")
    if not content:
        raise PictureError("the file is empty")
    return content


def grey(image: Image.Image) -> Grey:
    """Brightness of each pixel, shape (h, w), in 0…255; transparent parts become paper.

    Behind what is transparent lies paper that the ink stands out from: black behind bright ink,
    white behind dark.
    """
    shrink = math.ceil(max(image.size) / MAX_SIDE)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = Image.fromarray(np.asarray(image, np.float32)).reduce(shrink)
        return _stretch_deep(np.asarray(deep, np.float64))
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


def _stretch_deep(levels: npt.NDArray[np.float64]) -> Grey:
    """Bring 16-bit, 32-bit and float levels to 0…255 by their own range: none has a fixed white."""
    levels = np.nan_to_num(levels, nan=0, posinf=0, neginf=0)
    low, high = float(levels.min()), float(levels.max())
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray((levels - low) * scale, np.float32)


def looks_like_mnist(levels: Grey) -> bool:
    """Whether a picture is drawn as all 70,000 of MNIST are, and so needs no drawing again.

    White on black in 28×28, the longer side of the ink 18 to 20 pixels, the centre of mass within
    half a pixel of (14, 14). MNIST's own lie in 19…20 and 13.48…14.5.
    """
    if levels.shape != (SIDE, SIDE) or levels[[0, 0, -1, -1], [0, -1, 0, -1]].any():
        return False
    rows, columns = np.flatnonzero(levels.any(axis=1)), np.flatnonzero(levels.any(axis=0))
    if not rows.size:
        return False
    longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    return 18 <= longer <= BOX and all(abs(c - SIDE / 2) < 0.53 for c in centre_of_mass(levels))


def ink(levels: Grey) -> Grey | None:
    """How much ink lies on each pixel, shape (h, w), in 0…255, whichever of both is brighter.

    Paper is what most of the picture's edge shows. Returns None where nothing stands out from it.
    """
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    paper = np.median(edge)
    darker, brighter = (np.maximum(d, 0) for d in (paper - levels, levels - paper))
    # The stronger of both is ink; compared by mass, so that a few odd pixels do not decide.
    strength = darker if darker.sum() >= brighter.sum() else brighter
    # A fine pen covers little of a large picture, so the darkest few pixels say how dark ink is.
    few = max(1, min(strength.size // 1000, 100))
    darkest = float(np.partition(strength.ravel(), -few)[-few])
    if darkest < MIN_CONTRAST:
        return None
    # Paper has a grain; what is fainter than a fifth of the ink counts as paper.
    return np.asarray(np.clip((strength / darkest - 0.2) / 0.8, 0, 1) * 255, np.float32)


def crop(strength: Grey) -> Grey:
    """Cut away the rows and columns without ink."""
    rows, columns = (np.flatnonzero((strength > 64).any(axis=axis)) for axis in (1, 0))
    return strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(strength: Grey) -> Pixels:
    """Resize by area so that the longer side has 20 pixels, keeping the digit's shape."""
    height, width = strength.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(strength).resize(size, Image.Resampling.HAMMING))
    # A thin stroke spread over its pixel turns grey; MNIST's ink is white at its core.
    white = small * (255 / max(float(small.max()), 1))
    return np.asarray(np.rint(np.clip(white, 0, 255)), np.uint8)


def centre(small: Pixels) -> Pixels:
    """Put the digit into 28×28 so that its centre of mass lies at (14, 14), as near as may be."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    height, width = small.shape
    y, x = centre_of_mass(small)
    top = int(np.clip(round(SIDE / 2 - y), 0, SIDE - height))
    left = int(np.clip(round(SIDE / 2 - x), 0, SIDE - width))
    pixels[top : top + height, left : left + width] = small
    return pixels


def centre_of_mass(levels: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Row and column of the mean pixel, weighted by level; the first pixel is at 0."""
    mass = np.asarray(levels, np.float64)
    total = mass.sum()
    return (
        float(mass.sum(axis=1) @ np.arange(mass.shape[0]) / total),
        float(mass.sum(axis=0) @ np.arange(mass.shape[1]) / total),
    )
