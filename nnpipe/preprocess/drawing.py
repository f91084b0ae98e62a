"""The ink of one digit → 28×28 pixels as MNIST has them."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe.preprocess.components import FAINTEST, outline
from nnpipe.preprocess.pictures import Grey, Pixels

SIDE = 28
BOX = 20
"""Longer side of the digit, in pixels of the 28×28 picture."""

FINE = 4
"""Factor by which the digit is drawn larger and then shrunk, so that its edges are soft."""

PEN = 2.3
"""Width to which thinner strokes are thickened, in pixels of the 28×28 picture. Half of MNIST's are
2.1 to 3.0 wide."""


def look_like_mnist(levels: Grey) -> npt.NDArray[np.bool_]:
    """Return which of n pictures, shape (n, 28, 28) in 0…255, look like MNIST's.

    Such pictures are not drawn again: white on black, the longer side of the ink 18 to 20 pixels,
    the centre of mass within half a pixel of (14, 14). For MNIST these are 19 to 20 and 13.48 to
    14.5.
    """
    ones = np.ones(SIDE, np.float32)
    rows, columns = levels @ ones, ones @ levels  # five times as fast as sum(), and exact as well
    total = rows.sum(axis=1)
    result: npt.NDArray[np.bool_] = levels.reshape(-1, SIDE * SIDE).max(axis=1) >= FAINTEST
    result &= levels[:, ::27, ::27].max(axis=(1, 2)) == 0  # the corners
    longer = np.zeros(len(levels), np.int64)
    for sums in (rows, columns):
        inked = sums > 0
        longer = np.maximum(longer, SIDE - inked[:, ::-1].argmax(axis=1) - inked.argmax(axis=1))
        moment = sums @ np.arange(SIDE, dtype=np.float32)
        result &= np.abs(moment - total * SIDE / 2) < 0.53 * total
    result &= (longer >= 18) & (longer <= BOX)
    return result


def as_mnist(levels: Grey | Pixels) -> list[Pixels | None]:
    """Return pictures, shape (n, 28, 28), white on black; None for those unlike MNIST's."""
    white = levels.astype(np.float32)
    bright = white[:, 0, 0] > 127  # the paper, judged by a corner
    white[bright] = 255 - white[bright]
    pixels = np.rint(white).astype(np.uint8)
    drawn = look_like_mnist(white).tolist()
    return [picture if alike else None for picture, alike in zip(pixels, drawn, strict=True)]


def draw(strength: Grey) -> Pixels:
    """Draw ink of any size and width as MNIST does: cropped, thickened, fitted, centred."""
    digit = crop(strength)
    large = fit(digit, BOX * FINE)
    missing = PEN * FINE - stroke_width(large)
    if missing > 0:
        # The pen adds half its width on each side.
        large = crop(thicken(fit(digit, BOX * FINE - missing), missing / 2))
    small = fit(large, BOX)
    # Shrinking turns thin strokes grey, but MNIST's strokes are white in the middle.
    white = small * (255 / max(float(small.max()), 1))
    return centre(np.rint(np.clip(white, 0, 255)).astype(np.uint8))


def crop(strength: Grey) -> Grey:
    """Remove the empty rows and columns around the ink."""
    faintest = min(FAINTEST, strength.max() / 2)  # a thin stroke may be fainter after shrinking
    rows, columns = (np.flatnonzero((strength > faintest).any(axis=axis)) for axis in (1, 0))
    return strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(strength: Grey, longer: float) -> Grey:
    """Resize ink to this many pixels on the longer side, keeping its proportions."""
    height, width = strength.shape
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.HAMMING
    return np.asarray(Image.fromarray(strength).resize(size, how)).clip(0, 255)


def stroke_width(strength: Grey) -> float:
    """Return the mean width of the strokes, in pixels: twice the area / the outline."""
    inside = strength > 127
    # A slanting outline is a staircase, 4/π times as long as the line on average.
    return float(2 * inside.sum() / max(outline(inside) * np.pi / 4, 1))


def thicken(strength: Grey, radius: float) -> Grey:
    """Thicken ink by ``radius`` pixels on each side, as a round pen does."""
    reach = int(np.ceil(radius))
    wide = np.pad(strength, 2 * reach)
    height, width = (side - 2 * reach for side in wide.shape)
    result = np.zeros((height, width), np.float32)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            # The edge of the pen is soft, which allows fractions of a pixel.
            share = min(radius + 1 - np.hypot(y - reach, x - reach), 1)
            if share > 0:
                moved = wide[y : y + height, x : x + width]
                np.maximum(result, moved * np.float32(share), out=result)
    return result


def centre(small: Pixels) -> Pixels:
    """Place a digit in 28×28 pixels with its centre of mass as near to (14, 14) as possible."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    height, width = small.shape
    y, x = centre_of_mass(small)
    top = int(np.clip(round(SIDE / 2 - y), 0, SIDE - height))
    left = int(np.clip(round(SIDE / 2 - x), 0, SIDE - width))
    pixels[top : top + height, left : left + width] = small
    return pixels


def centre_of_mass(levels: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Return the mean row and column of the pixels, weighted by level; the first pixel is at 0."""
    mass = np.asarray(levels, np.float64)
    y, x = (profile @ np.arange(len(profile)) for profile in (mass.sum(axis=1), mass.sum(axis=0)))
    return float(y / mass.sum()), float(x / mass.sum())
