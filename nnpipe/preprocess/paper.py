"""Brightness → ink: whether the paper is light, how bright it is, and what stands out from it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from nnpipe.preprocess.pictures import Grey

MIN_CONTRAST = 8
"""Smallest difference between ink and paper, in grey levels of 255."""

GRAIN = 5.0
"""Smallest difference between ink and paper, as a multiple of the paper's own spread."""

MIN_SIDE = 100
"""Pixels. A picture whose longer side is shorter is enlarged, so that strokes are several pixels
wide."""

WIDEST = 0.25
"""Share of the shorter side. On a photo, strokes are narrower; what is wider is light or shade."""

DARKEST_PAPER = 48
"""Grey level, of 255. Darker paper counts as this dark, because shares of it would be noise."""


class Ink(NamedTuple):
    """The ink on a picture."""

    strength: Grey  # (h, w): 0 is paper, 255 certainly ink
    drawing: bool  # on paper of one level, such as a canvas or a clean scan


def ink(levels: Grey) -> Ink | None:
    """Measure how much ink is on each pixel; return None if nothing stands out from the paper."""
    drawing = is_drawing(levels)
    tiny = max(levels.shape) < MIN_SIDE
    levels = enlarge(levels)
    dark = levels if paper_is_light(levels, drawing) else 255 - levels
    darker = darker_than_paper(dark) if drawing else darker_than_surroundings(dark)
    if not (drawing and tiny):  # on a tiny drawing, a line across the picture is a stroke
        darker = _without_lines(darker)

    threshold = otsu(darker)
    is_ink = darker > threshold
    if not is_ink.any():
        return None
    grain = np.median(darker[~is_ink])
    spread = 1.4826 * np.median(np.abs(darker[~is_ink] - grain))  # σ of normal grain
    # The median, not the maximum: beside a single blot, the rest of the stroke would look faint.
    typical = float(np.median(darker[is_ink]) - grain)
    if typical < max(MIN_CONTRAST, GRAIN * spread):
        return None
    faintest = float(np.clip(3 * spread / typical, 0.15, 0.5))
    strength = ((darker - grain) / typical - faintest) / (0.9 - faintest)
    return Ink(np.clip(strength * 255, 0, 255), drawing)


def is_drawing(levels: Grey) -> bool:
    """Return True if the picture is a drawing or a clean scan rather than a photo.

    Half of such a picture has one level, or nearly all of it has one of two levels that are as far
    apart as ink and paper.
    """
    counts = np.bincount(np.rint(levels).astype(np.uint8).ravel(), minlength=256)
    if np.convolve(counts, np.ones(3), "same").max() > 0.5 * levels.size:
        return True
    threshold = int(otsu(levels)) + 1
    dark, light = (
        int(np.searchsorted(np.cumsum(part), part.sum() / 2))
        for part in (counts[:threshold], counts[threshold:])
    )
    light += threshold
    near = counts[max(0, dark - 3) : dark + 4].sum() + counts[light - 3 : light + 4].sum()
    return bool(light - dark > 128 and near > 0.8 * levels.size)


def enlarge(levels: Grey) -> Grey:
    """Enlarge a small picture by a whole factor to at least `MIN_SIDE` pixels."""
    factor = -(-MIN_SIDE // max(levels.shape))
    if factor == 1:
        return levels
    size = levels.shape[1] * factor, levels.shape[0] * factor
    enlarged = Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(enlarged).clip(0, 255)  # bicubic interpolation overshoots


def paper_is_light(levels: Grey, drawing: bool) -> bool:
    """Return True if the paper is brighter than the ink.

    On a drawing, paper covers most of the border, of the corners and of the whole. On a photo, a
    shadow may do so as well. But strokes are narrow there, so the differences between pixels and
    their surroundings are skewed towards the ink.
    """
    if not drawing:
        local = _mean(levels, 3) - _mean(levels, max(3, round(0.2 * min(levels.shape))))
        return float((local * local * local).sum()) < 0
    bright = levels > otsu(levels)
    rim = max(1, round(0.04 * min(levels.shape)))
    border = np.ones(levels.shape, np.bool_)
    border[rim:-rim, rim:-rim] = False
    h, w = (max(1, side // 7) for side in levels.shape)
    corners = bright[np.ix_(np.r_[:h, -h:0], np.r_[:w, -w:0])]
    return bool((bright[border].mean() + corners.mean() + bright.mean()) / 3 > 0.5)


def otsu(levels: Grey) -> float:
    """Return the threshold with the least variance within dark and bright levels (Otsu 1979)."""
    low, high = float(levels.min()), float(levels.max())
    if low == high:
        return high
    bins = ((levels - low) * (255 / (high - low))).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=256).astype(np.float64)
    dark = np.cumsum(counts)[:-1]
    mass = np.cumsum(counts * np.arange(256))
    total = counts.sum()
    between = (mass[-1] * dark - mass[:-1] * total) ** 2 / np.maximum(dark * (total - dark), 1)
    # All thresholds in the gap between two clusters are equally good; take the middle.
    best = float(np.flatnonzero(between == between.max()).mean())
    return low + (best + 1) * (high - low) / 255


def _mean(levels: Grey, width: int) -> Grey:
    """Return the mean of the square around each pixel."""
    image = Image.fromarray(np.rint(levels).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(width // 2)), np.float32)


def darker_than_paper(levels: Grey) -> Grey:
    """Measure how much darker each pixel is than paper of one level: a share of it, × 255."""
    bright = levels > otsu(levels)
    paper = float(np.median(levels[bright]) if bright.any() else levels.max())
    return _share(paper - levels, np.float32(paper))


def darker_than_surroundings(levels: Grey) -> Grey:
    """Measure how much darker each pixel is than the paper around it: a share of it, × 255.

    A morphological closing fills dark and narrow marks with their surroundings, which leaves the
    brightness of the paper. Shades and the sharp edges of shadows remain.
    """
    smooth = _mean(levels, 3)
    paper = closing(smooth, max(9, round(WIDEST * min(levels.shape))))
    return _share(paper - smooth, paper)


def _share(darker: Grey, paper: Grey | np.float32) -> Grey:
    share = np.maximum(darker, 0) / np.maximum(paper, DARKEST_PAPER)
    return np.asarray(share * 255, np.float32)


def closing(levels: Grey, width: int) -> Grey:
    """Fill dark marks narrower than ``width`` pixels with the brightness around them."""
    before, after = width // 2, width - 1 - width // 2
    whole = np.pad(np.rint(levels).astype(np.uint8), (before, after), "edge")
    brightest = np.pad(running(whole, width, extreme=np.maximum), (after, before), "edge")
    return running(brightest, width, extreme=np.minimum).astype(np.float32)


def running(
    array: npt.NDArray[np.generic], width: int, *, extreme: Callable[..., npt.NDArray[np.generic]]
) -> npt.NDArray[np.generic]:
    """Return the minimum or maximum of each ``width`` × ``width`` square within an array."""
    reach = 1
    while reach < width:
        # Two overlapping squares make one that is up to twice as wide.
        step = min(reach, width - reach)
        array = extreme(array[:-step], array[step:])
        array = extreme(array[:, :-step], array[:, step:])
        reach += step
    return array


def _without_lines(darker: Grey) -> Grey:
    """Remove straight lines across the whole picture: ruled or squared paper, a table."""
    return np.maximum(darker - np.maximum(_lines(darker), _lines(darker.T).T), 0)


def _lines(darker: Grey) -> Grey:
    """Return the strength of lines from the left to the right border, tilted by up to 5°.

    The strength of a line is what nearly all of it exceeds, so a digit that it crosses does not
    count. A line reaches both borders, but strokes do not. The tilt is the one with the strongest
    lines.
    """
    height, width = darker.shape
    columns = np.arange(0, width, max(1, width // 24))
    rows = np.arange(height)

    def exceeded(share: float, along: Grey) -> Grey:
        """Return the level that all but a share of each line exceeds."""
        place = int(share * along.shape[-1])
        return np.partition(along, place)[..., place]

    # An upper bound on the strength of all lines: if it is far below that of ink, remove none.
    if exceeded(0.15, darker.max(axis=0)) < 0.05 * darker.max():
        return np.zeros_like(darker)

    def profiles(tilts: npt.NDArray[np.float64], rows: npt.NDArray[np.intp]) -> Grey:
        """Return the strength of each line, shape (tilts, rows)."""
        rise = np.rint(np.multiply.outer(tilts, columns - width / 2)).astype(np.intp)
        along = darker[np.clip(rows[:, None] + rise[:, None], 0, height - 1), columns]
        ends = np.minimum(exceeded(0.5, along[..., :3]), exceeded(0.5, along[..., -3:]))
        return np.minimum(exceeded(0.15, along), ends)

    tilts = np.linspace(-0.08, 0.08, 17)
    best = int(np.argmax((profiles(tilts, rows[::2]) ** 2).sum(axis=1)))
    strongest = np.pad(profiles(tilts[best : best + 1], rows)[0], 1)
    line = np.maximum(np.maximum(strongest[:-2], strongest[2:]), strongest[1:-1])
    source = rows[:, None] - np.rint(tilts[best] * (np.arange(width) - width / 2)).astype(np.intp)
    # Lines have grain, so the level that nearly all of a line exceeds is below its mean.
    return np.asarray(1.3 * line[np.clip(source, 0, height - 1)], np.float32)
