"""Brightness → ink: whether the paper is light, how bright it is, and what stands out from it."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.pictures import Pixels

MIN_CONTRAST = 8
"""Smallest difference between ink and paper, in grey levels of 255."""

GRAIN = 5.0
"""Smallest difference between ink and paper, as a multiple of the paper's own spread."""

LITTLE = 0.001
"""Share of the picture: less ink than this can be lost among the grain."""

WIDEST = 0.25
"""Share of the shorter side. On a photo, strokes are narrower; what is wider is light or shade."""

DARKEST_PAPER = 48
"""Grey level, of 255. Darker paper counts as this dark, because shares of it would be noise."""

OPEN = 0.1
"""Largest distance from a tie at which either polarity is possible."""

SMALL = 40
"""Pixels: the longer side of pictures that are too small for light and shade."""

LEVELS = np.arange(256)


class Paper(NamedTuple):
    """What is known of the paper before its ink is measured."""

    even: bool  # of one level, as of a drawing or a clean scan; or under uneven light, as a photo
    light: bool  # brighter than the ink
    open: bool  # the other polarity is possible as well


def look(levels: Pixels, original: Pixels) -> Paper:
    """Judge the paper of a picture, shape (h, w).

    Args:
        levels: the picture at the size at which it is examined.
        original: the same in its own size, whose levels are not mixed by scaling.
    """
    even = max(original.shape) < SMALL or is_even(original)
    lean = _border_lean(levels) + 0.2 * min(max(_stroke_lean(levels), -2.0), 2.0)
    return Paper(even, lean > 0, abs(lean) < OPEN)


def is_even(levels: Pixels) -> bool:
    """Return True if the picture is a drawing or a clean scan rather than a photo.

    Half of such a picture has one level, or nearly all of it has one of two levels that are as far
    apart as ink and paper.
    """
    counts = histogram(levels)
    if np.convolve(counts, np.ones(3), "same").max() > 0.5 * levels.size:
        return True
    threshold = int(otsu(counts)) + 1
    dark, light = (
        int(np.searchsorted(np.cumsum(part), part.sum() / 2))
        for part in (counts[:threshold], counts[threshold:])
    )
    light += threshold
    near = counts[max(0, dark - 3) : dark + 4].sum() + counts[light - 3 : light + 4].sum()
    return bool(light - dark > 128 and near > 0.8 * levels.size)


def _border_lean(levels: Pixels) -> float:
    """Return how far the paper is light: −0.5 (dark) … 0.5 (light).

    Paper covers most of the border, of the corners and of the whole. But a frame or a shadow may
    cover the border, too.
    """
    bright = (levels > otsu(histogram(levels))).astype(np.float32)
    rim = max(1, round(0.04 * min(levels.shape)))
    top, bottom, left, right = bright[:rim], bright[-rim:], bright[:, :rim], bright[:, -rim:]
    sides = [float(side.sum()) for side in (top, bottom, left, right)]
    border = sum(sides) / max(1, top.size + bottom.size + left.size + right.size)
    h, w = (max(1, side // 7) for side in levels.shape)
    corners = [
        bright[y, x].mean() for y in (np.s_[:h], np.s_[-h:]) for x in (np.s_[:w], np.s_[-w:])
    ]
    return float((border + sum(corners) / 4 + bright.mean()) / 3) - 0.5


def _stroke_lean(levels: Pixels) -> float:
    """Return how far the paper is light: the skewness of strokes, negative if they are bright.

    Strokes are narrow, so the differences between pixels and their surroundings are skewed towards
    the ink. But on a picture that is cut to its ink, strokes are as wide as the paper between them.
    """
    wide = max(3, round(0.2 * min(levels.shape))) | 1
    fine, coarse = (cv2.blur(levels, (width, width)) for width in (3, wide))
    local = cv2.subtract(fine, coarse, dtype=cv2.CV_32F)
    square = cv2.multiply(local, local)
    spread = float(square.mean()) ** 1.5
    return -float(cv2.mean(cv2.multiply(square, local))[0]) / max(spread, 1e-6)


def histogram(levels: Pixels) -> npt.NDArray[np.float32]:
    """Count each level, shape (256,)."""
    return cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()


def otsu(counts: npt.NDArray[np.float32]) -> float:
    """Return the threshold with the least variance within dark and bright levels (Otsu 1979).

    Args:
        counts: the number of pixels of each level, shape (256,).
    """
    dark = np.cumsum(counts, dtype=np.float64)[:-1]
    mass = np.cumsum(counts * LEVELS, dtype=np.float64)
    total = dark[-1] + counts[-1]
    between = (mass[-1] * dark - mass[:-1] * total) ** 2 / np.maximum(dark * (total - dark), 1)
    # All thresholds in the gap between two clusters are equally good; take the middle.
    return float(np.flatnonzero(between >= between.max() * (1 - 1e-12)).mean())


def ink(levels: Pixels, *, light: bool, even: bool, large: bool = False) -> Pixels | None:
    """Measure how much ink is on each pixel; return None if nothing stands out from the paper.

    Args:
        levels: brightness, uint8 (h, w).
        light: the paper is brighter than the ink.
        even: the paper has one level.
        large: the picture was much larger, so that very little ink may be a digit.

    Returns:
        Strength, uint8 (h, w): 0 is paper, 255 certainly ink.
    """
    darkest, brightest, _, _ = cv2.minMaxLoc(levels)
    if brightest - darkest < MIN_CONTRAST:
        return None
    dark = levels if light else cv2.bitwise_not(levels)
    darker = _darker_than_paper(dark) if even else _darker_than_surroundings(dark)
    counts = histogram(darker)
    threshold = int(otsu(counts)) + 1
    paper, inked = counts[:threshold], counts[threshold:]
    if not inked.any():
        return None
    grain = _median(paper)
    deviations = np.bincount(np.abs(np.arange(threshold) - grain), paper)
    spread = 1.4826 * _median(deviations)  # σ of normal grain
    least = max(MIN_CONTRAST, GRAIN * spread)
    # The median, not the maximum: beside a single blot, the rest of the stroke would look faint.
    typical = _median(inked) + threshold - grain
    if typical < least:
        # Otsu's threshold parts the grain if there is very little ink, as on a large page.
        clear = int(grain + least)
        far = counts[clear:]
        if not (large and 0 < far.sum() < LITTLE * levels.size):
            return None
        typical = _median(far) + clear - grain
    faintest = min(max(3 * spread / typical, 0.15), 0.5)
    curve = ((LEVELS - grain) / typical - faintest) * (255 / (0.9 - faintest))
    return cv2.LUT(darker, curve.clip(0, 255).astype(np.uint8))


def _median(counts: npt.NDArray[np.generic]) -> int:
    total = np.cumsum(counts)
    return int(np.searchsorted(total, total[-1] / 2))


def _darker_than_paper(levels: Pixels) -> Pixels:
    """Measure how much darker each pixel is than paper of one level: a share of it, × 255."""
    counts = histogram(levels)
    threshold = int(otsu(counts)) + 1
    bright = counts[threshold:]
    paper = _median(bright) + threshold if bright.any() else int(levels.max())
    shares = (paper - LEVELS) * (255 / max(paper, DARKEST_PAPER))
    return cv2.LUT(levels, np.rint(shares).clip(0, 255).astype(np.uint8))


def _darker_than_surroundings(levels: Pixels) -> Pixels:
    """Measure how much darker each pixel is than the paper around it: a share of it, × 255.

    A morphological closing fills dark and narrow marks with their surroundings, which leaves the
    brightness of the paper. Shades and the sharp edges of shadows remain.
    """
    smooth = cv2.blur(levels, (3, 3))
    paper = closing(smooth, max(9, round(WIDEST * min(levels.shape))))
    darker = cv2.subtract(paper, smooth)
    return cv2.divide(darker, cv2.max(paper, DARKEST_PAPER), scale=255)


def closing(levels: Pixels, width: int) -> Pixels:
    """Fill dark marks narrower than ``width`` pixels with the brightness around them."""
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (width | 1, width | 1))
    reach = width // 2 + 1
    # Beyond the border, the picture goes on as it ends: OpenCV's own border would leave dark
    # corners.
    whole = cv2.copyMakeBorder(levels, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    return cv2.morphologyEx(whole, cv2.MORPH_CLOSE, square)[reach:-reach, reach:-reach]
