"""The ink of one digit → 28×28 pixels as MNIST has them."""

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.marks import outline
from nnpipe.preprocess.mnist_like import BOX, FAINTEST, SIDE
from nnpipe.preprocess.pictures import Pixels

FINE = 4
"""Factor by which the digit is drawn larger and then shrunk, so that its edges are soft."""

PEN = 2.3
"""Width to which thinner strokes are thickened, in pixels of the 28×28 picture. Half of MNIST's are
2.1 to 3.0 wide."""


def draw(strength: Pixels) -> Pixels:
    """Draw ink of any size and width as MNIST does: cropped, thickened, fitted, centred."""
    digit = crop(strength)
    large = fit(digit, BOX * FINE)
    missing = PEN * FINE - stroke_width(large)
    if missing > 0:
        # The pen adds half its width on each side.
        large = crop(thicken(fit(digit, BOX * FINE - missing), missing / 2))
    small = fit(large, BOX)
    # Shrinking turns thin strokes grey, but MNIST's strokes are white in the middle.
    return centre(cv2.convertScaleAbs(small, alpha=255 / max(int(small.max()), 1)))


def crop(strength: Pixels) -> Pixels:
    """Remove the empty rows and columns around the ink."""
    faintest = min(FAINTEST, int(strength.max()) // 2)  # a thin stroke may be faint after shrinking
    left, top, width, height = cv2.boundingRect((strength > faintest).view(np.uint8))
    return strength[top : top + height, left : left + width]


def fit(strength: Pixels, longer: float) -> Pixels:
    """Resize ink to this many pixels on the longer side, keeping its proportions."""
    height, width = strength.shape
    scale = longer / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(
        strength, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    )


def stroke_width(strength: Pixels) -> float:
    """Return the mean width of the strokes, in pixels: twice the area / the outline."""
    inside = (strength > 127).view(np.uint8)
    # A slanting outline is a staircase, 4/π times as long as the line on average.
    return float(2 * cv2.countNonZero(inside) / max(outline(inside) * np.pi / 4, 1))


def thicken(strength: Pixels, radius: float) -> Pixels:
    """Thicken ink by ``radius`` pixels on each side, as a round pen does."""
    reach = int(np.ceil(radius))
    wide = cv2.copyMakeBorder(strength, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    inner = cv2.dilate(wide, (distance <= int(radius)).astype(np.uint8))
    if radius == int(radius):
        return inner
    # Between two whole radii, the result lies between both.
    outer = cv2.dilate(wide, (distance <= reach).astype(np.uint8))
    share = radius - int(radius)
    return cv2.addWeighted(inner, 1 - share, outer, share, 0)


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
