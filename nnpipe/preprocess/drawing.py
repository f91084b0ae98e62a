"""The ink of one digit → 28×28 pixels as MNIST has them."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe.preprocess.components import FAINTEST, outline
from nnpipe.preprocess.pictures import Grey, Pixels

SIDE = 28
BOX = 20
"""The digit's longer side, in pixels of the 28×28 picture."""

FINE = 4
"""The digit is drawn this many times as large and then shrunk, so that its edges turn soft."""

PEN = 2.3
"""Thinner strokes are thickened to this width, in pixels of the 28×28 picture. MNIST's are 2.1 to
3.0 wide from the first to the third quarter."""


def look_like_mnist(levels: Grey) -> npt.NDArray[np.bool_]:
    """Which of n pictures, shape (n, 28, 28) in 0…255, are drawn as all 70,000 of MNIST are.

    Those need no drawing again: white on black, the longer side of the ink 18 to 20 pixels, the
    centre of mass within half a pixel of (14, 14). MNIST's own lie in 19…20 and 13.48…14.5.
    """
    ones = np.ones(SIDE, np.float32)
    rows, columns = levels @ ones, ones @ levels  # five times as fast as sum(), and as exact
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
    """Pictures of shape (n, 28, 28) as MNIST has drawn them, white on black; None if it has not."""
    white = levels.astype(np.float32)
    bright = white[:, 0, 0] > 127  # paper, as far as a corner tells
    white[bright] = 255 - white[bright]
    pixels = np.rint(white).astype(np.uint8)
    drawn = look_like_mnist(white).tolist()
    return [shown if ready else None for shown, ready in zip(pixels, drawn, strict=True)]


def draw(strength: Grey) -> Pixels:
    """Draw ink of any size and width as MNIST would have: cropped, thickened, fitted, centred."""
    digit = crop(strength)
    large = fit(digit, BOX * FINE)
    missing = PEN * FINE - stroke_width(large)
    if missing > 0:
        # The pen goes half its width beyond the line, on all sides.
        large = crop(thicken(fit(digit, BOX * FINE - missing), missing / 2))
    small = fit(large, BOX)
    # A thin stroke spread over its pixel turns grey; MNIST's ink is white at its core.
    white = small * (255 / max(float(small.max()), 1))
    return centre(np.rint(np.clip(white, 0, 255)).astype(np.uint8))


def crop(strength: Grey) -> Grey:
    """Cut away the rows and columns without ink."""
    faintest = min(FAINTEST, strength.max() / 2)  # shrunk, a thin stroke may be fainter throughout
    rows, columns = (np.flatnonzero((strength > faintest).any(axis=axis)) for axis in (1, 0))
    return strength[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(strength: Grey, longer: float) -> Grey:
    """Resize so that the longer side has so many pixels, keeping the digit's shape."""
    height, width = strength.shape
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.HAMMING
    return np.asarray(Image.fromarray(strength).resize(size, how)).clip(0, 255)


def stroke_width(strength: Grey) -> float:
    """Mean width of the strokes in pixels: twice the area by the length of the outline."""
    inside = strength > 127
    # A slanting outline is a staircase, longer than the line by 4/π on average.
    return float(2 * inside.sum() / max(outline(inside) * np.pi / 4, 1))


def thicken(strength: Grey, radius: float) -> Grey:
    """Go over the ink with a round pen; it grows by ``radius`` pixels on each side."""
    reach = int(np.ceil(radius))
    wide = np.pad(strength, 2 * reach)
    height, width = (side - 2 * reach for side in wide.shape)
    result = np.zeros((height, width), np.float32)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            # The pen's edge is soft, so that its radius need not be whole.
            share = min(radius + 1 - np.hypot(y - reach, x - reach), 1)
            if share > 0:
                moved = wide[y : y + height, x : x + width]
                np.maximum(result, moved * np.float32(share), out=result)
    return result


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
    down, across = mass.sum(axis=1), mass.sum(axis=0)
    total = down.sum()
    return (
        float(down @ np.arange(len(down)) / total),
        float(across @ np.arange(len(across)) / total),
    )
