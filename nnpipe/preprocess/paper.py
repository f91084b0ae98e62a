"""Brightness → ink: which of both is paper, how bright it is, and what stands out from it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from nnpipe.preprocess.pictures import Grey

MIN_CONTRAST = 8
"""Grey levels, of 255, by which ink must stand out from paper; less is blank."""

GRAIN = 5.0
"""By how many times the paper's own spread ink must stand out from it; less is blank."""

MIN_SIDE = 100
"""Smaller pictures are enlarged, so that a stroke is several pixels wide."""

WIDEST = 0.25
"""On a photo, ink is narrower than this share of the picture; what is wider is light and shade."""

DARKEST_PAPER = 48
"""Of paper darker than this a share would be mostly noise."""


class Ink(NamedTuple):
    """What stands out from the paper."""

    strength: Grey  # (h, w), 0 is paper, 255 is plainly ink
    drawing: bool  # on paper of one level: a canvas, a clean scan


def ink(levels: Grey) -> Ink | None:
    """How much ink lies on each pixel; None where nothing stands out from the paper."""
    drawing = is_drawing(levels)
    tiny = max(levels.shape) < MIN_SIDE
    levels = enlarge(levels)
    dark = levels if paper_is_light(levels, drawing) else 255 - levels
    darker = darker_than_paper(dark) if drawing else darker_than_surroundings(dark)
    if not (drawing and tiny):  # there, what runs across is a stroke
        darker = _without_lines(darker)

    threshold = otsu(darker)
    is_ink = darker > threshold
    if not is_ink.any():
        return None
    grain = np.median(darker[~is_ink])
    spread = 1.4826 * np.median(np.abs(darker[~is_ink] - grain))  # σ, if the grain is normal
    # The typical ink, not the darkest: a single blot would make the rest of the stroke look faint.
    typical = float(np.median(darker[is_ink]) - grain)
    if typical < max(MIN_CONTRAST, GRAIN * spread):
        return None
    faintest = float(np.clip(3 * spread / typical, 0.15, 0.5))
    strength = ((darker - grain) / typical - faintest) / (0.9 - faintest)
    return Ink(np.clip(strength * 255, 0, 255), drawing)


def is_drawing(levels: Grey) -> bool:
    """Whether half of the picture has one level, or nearly all of it one of two that are as far
    apart as ink and paper: it is no photo.
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
    """Enlarge small pictures by a whole factor to at least `MIN_SIDE` pixels."""
    factor = -(-MIN_SIDE // max(levels.shape))
    if factor == 1:
        return levels
    size = levels.shape[1] * factor, levels.shape[0] * factor
    enlarged = Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(enlarged).clip(0, 255)  # the cubic overshoots at edges


def paper_is_light(levels: Grey, drawing: bool) -> bool:
    """Whether the paper is brighter than the ink.

    On a drawing, paper is what covers most of the border, of the corners and of the whole. On a
    photo a shadow may do that, too; there, strokes are the narrow minority within their
    surroundings, so that differences to these are skewed towards ink.
    """
    if not drawing:
        local = _mean(levels, 3) - _mean(levels, max(3, round(0.2 * min(levels.shape))))
        return float((local * local * local).sum()) < 0
    bright = levels > otsu(levels)
    rim = max(1, round(0.04 * min(levels.shape)))
    border = np.ones(levels.shape, np.bool_)
    border[rim:-rim, rim:-rim] = False
    h, w = (max(1, side // 7) for side in levels.shape)
    corners = [
        bright[rows, cols].mean()
        for rows in (np.s_[:h], np.s_[-h:])
        for cols in (np.s_[:w], np.s_[-w:])
    ]
    return bool((bright[border].mean() + np.mean(corners) + bright.mean()) / 3 > 0.5)


def otsu(levels: Grey) -> float:
    """The level that parts dark from bright with the least variance within both (Otsu 1979)."""
    low, high = float(levels.min()), float(levels.max())
    if low == high:
        return high
    bins = ((levels - low) * (255 / (high - low))).astype(np.uint8)
    counts = np.bincount(bins.ravel(), minlength=256).astype(np.float64)
    dark = np.cumsum(counts)[:-1]
    mass = np.cumsum(counts * np.arange(256))
    total = counts.sum()
    between = (mass[-1] * dark - mass[:-1] * total) ** 2 / np.maximum(dark * (total - dark), 1)
    # Every level in the gap between two clusters parts them alike; take the middle.
    best = float(np.flatnonzero(between == between.max()).mean())
    return low + (best + 1) * (high - low) / 255


def _mean(levels: Grey, width: int) -> Grey:
    """Mean over a square around each pixel."""
    blurred = Image.fromarray(np.rint(levels).astype(np.uint8)).filter(
        ImageFilter.BoxBlur(width // 2)
    )
    return np.asarray(blurred, np.float32)


def darker_than_paper(levels: Grey) -> Grey:
    """How much darker each pixel is than paper of one level, as a share of that level, × 255."""
    bright = levels > otsu(levels)
    paper = float(np.median(levels[bright]) if bright.any() else levels.max())
    return _share(paper - levels, np.float32(paper))


def darker_than_surroundings(levels: Grey) -> Grey:
    """How much darker each pixel is than the paper there, as a share of its brightness, × 255.

    The paper's brightness is what remains when all that is dark and narrow is filled with its
    surroundings, a morphological closing. Shades, and even the sharp edge of a shadow, remain.
    """
    smooth = _mean(levels, 3)
    paper = closing(smooth, max(9, round(WIDEST * min(levels.shape))))
    return _share(paper - smooth, paper)


def _share(darker: Grey, paper: Grey | np.float32) -> Grey:
    share = np.maximum(darker, 0) / np.maximum(paper, DARKEST_PAPER)
    return np.asarray(share * 255, np.float32)


def closing(levels: Grey, width: int) -> Grey:
    """Fill what is dark and narrower than ``width`` pixels with the brightness around it."""
    before, after = width // 2, width - 1 - width // 2
    whole = np.pad(np.rint(levels).astype(np.uint8), (before, after), "edge")
    brightest = np.pad(running(whole, width, np.maximum), (after, before), "edge")
    return running(brightest, width, np.minimum).astype(np.float32)


def running(
    array: npt.NDArray[np.generic], width: int, extreme: Callable[..., npt.NDArray[np.generic]]
) -> npt.NDArray[np.generic]:
    """Minimum or maximum over each ``width`` × ``width`` square that lies within an array."""
    reach = 1
    while reach < width:
        # Two neighbouring squares make one that is up to twice as wide.
        step = min(reach, width - reach)
        array = extreme(array[:-step], array[step:])
        array = extreme(array[:, :-step], array[:, step:])
        reach += step
    return array


def _without_lines(darker: Grey) -> Grey:
    """Take away what runs straight across the whole picture: ruled or squared paper, a table."""
    return np.maximum(darker - np.maximum(_lines(darker), _lines(darker.T).T), 0)


def _lines(darker: Grey) -> Grey:
    """The strength of lines that run from left to right, tilted by up to 5°.

    A line is as strong as nearly all of it is, so that a digit that it crosses does not count; and
    it goes on to both borders, which no stroke does. The tilt is the one that makes the lines
    strongest.
    """
    height, width = darker.shape
    columns = np.arange(0, width, max(1, width // 24))
    rows = np.arange(height)

    def exceeded(share: float, along: Grey) -> Grey:
        """What all but a share of each line exceeds."""
        place = int(share * along.shape[-1])
        return np.partition(along, place)[..., place]

    # No line is stronger than this, and what is so much fainter than the ink is not seen as ink.
    if exceeded(0.15, darker.max(axis=0)) < 0.05 * darker.max():
        return np.zeros_like(darker)

    def profiles(tilts: npt.NDArray[np.float64], rows: npt.NDArray[np.intp]) -> Grey:
        """The strength of each line, shape (tilts, rows)."""
        rise = np.rint(np.multiply.outer(tilts, columns - width / 2)).astype(np.intp)
        along = darker[np.clip(rows[:, None] + rise[:, None], 0, height - 1), columns]
        ends = np.minimum(exceeded(0.5, along[..., :3]), exceeded(0.5, along[..., -3:]))
        return np.minimum(exceeded(0.15, along), ends)

    tilts = np.linspace(-0.08, 0.08, 17)
    best = int(np.argmax((profiles(tilts, rows[::2]) ** 2).sum(axis=1)))
    strongest = np.pad(profiles(tilts[best : best + 1], rows)[0], 1)
    line = np.maximum(np.maximum(strongest[:-2], strongest[2:]), strongest[1:-1])
    source = rows[:, None] - np.rint(tilts[best] * (np.arange(width) - width / 2)).astype(np.intp)
    # A line has a grain, too: what nearly all of it exceeds is less than its mean.
    return np.asarray(1.3 * line[np.clip(source, 0, height - 1)], np.float32)
