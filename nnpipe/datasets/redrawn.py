"""Training digits as people present them, prepared as `preprocess` prepares pictures.

A digit is rewritten with a random pen and put on a picture: a scan, a cell of a form, a photo, a
cut to its ink. Such a picture is understood in several ways. Those that show the digit are digits
to learn; those that show something else, such as a frame or two digits as one, are strangers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnpipe.errors import DatasetError, ProcessError
from nnpipe.preprocess import SIDE, Pixels
from nnpipe.processes import cores, over

BATCH = 500
"""Pictures per task of a worker process; up to this many are drawn without worker processes."""

SECONDS = 600
"""Time limit of a batch, which usually takes two seconds."""

ALIKE, UNLIKE = 0.35, 0.5
"""Difference of two pictures, as a share of their ink, below which they show the same digit, and
above which they do not."""

PAIRS, EMPTY = 0.15, 0.05
"""Shares of the pictures that show two digits, and none."""

Array = NDArray[np.float32]


class Redrawn(NamedTuple):
    """What became of n digits."""

    digits: Pixels  # (m, 28, 28)
    rows: NDArray[np.intp]  # (m,) which of the n it is; some are there more than once
    strangers: Pixels  # (k, 28, 28), no digits


def redraw(images: Pixels, rng: np.random.Generator) -> Redrawn:
    """Present digits in random ways; the same state of ``rng`` gives the same pictures.

    Args:
        images: shape (n, 28, 28), like MNIST's.
        rng: the source of all chance.

    Raises:
        DatasetError: worker processes crashed repeatedly.
    """
    # Each picture has a seed of its own, so that the processes do not matter.
    seeds = rng.integers(0, 2**32, len(images)).tolist()
    partners = images[rng.permutation(len(images))]
    batches = [
        (
            start,
            images[start : start + BATCH],
            partners[start : start + BATCH],
            seeds[start : start + BATCH],
        )
        for start in range(0, len(images), BATCH)
    ]
    if len(batches) < 2:
        parts = [_redraw(batch) for batch in batches]
    else:
        parts = _redraw_in_processes(batches)
    digits, rows, strangers = zip(*parts, strict=True)
    return Redrawn(np.concatenate(digits), np.concatenate(rows), np.concatenate(strangers))


Batch = tuple[int, Pixels, Pixels, Sequence[int]]


def _redraw_in_processes(batches: list[Batch]) -> list[Redrawn]:
    try:
        results = list(over(_redraw, batches, seconds=SECONDS, workers=cores()))
        for result in results:
            if isinstance(result, ProcessError):
                raise result
    except ProcessError as error:
        raise DatasetError(
            f"a process that redraws digits has ended ({error}); give the machine more memory"
        ) from None
    return results


def _redraw(batch: Batch) -> Redrawn:
    """Redraw digits with their partners, where a picture has two, and their seeds."""
    from nnpipe.preprocess import hypotheses, marks
    from nnpipe.preprocess.drawing import draw

    start, images, partners, seeds = batch
    digits, rows, strangers = [], [], []
    for row, (image, partner, seed) in enumerate(zip(images, partners, seeds, strict=True), start):
        rng = np.random.default_rng(seed)
        kind = rng.random()
        ink = written(image, rng)
        targets = [draw(ink)]
        if kind < PAIRS:
            other = written(partner, rng)
            targets.append(draw(other))
            ink = beside(ink, other, rng=rng)
        elif kind < PAIRS + EMPTY:
            ink = np.zeros_like(ink)
        one = kind >= PAIRS + EMPTY
        digits.append(targets[0])
        rows.append(row)
        picture = presented(ink, rng, plain=kind < PAIRS and rng.random() < 0.5)
        for way in hypotheses.ways(hypotheses.lay_out(picture), picture):
            if not way.strength.any():
                continue
            pixels = hypotheses.drawn(way)
            unlike = min(difference(target, pixels) for target in targets)
            if one and unlike < ALIKE:
                digits.append(pixels)
                rows.append(row)
            elif unlike > UNLIKE and way.refusal in ("", marks.SEVERAL):
                strangers.append(pixels)
    none = np.zeros((0, SIDE, SIDE), np.uint8)
    return Redrawn(
        np.stack(digits) if digits else none,
        np.array(rows, np.intp),
        np.stack(strangers) if strangers else none,
    )


def difference(a: Pixels, b: Pixels) -> float:
    """Return the difference of two pictures as a share of their ink: 0, the same, to 1, disjoint.

    A centre of mass may be rounded either way, so the best of all shifts by a pixel counts.
    """
    wide = np.pad(a.astype(np.float32), 1)
    shifts = [(y, x) for y in range(3) for x in range(3)]
    total = float(a.sum(dtype=np.float64) + b.sum(dtype=np.float64))
    return min(
        float(np.abs(wide[y : y + SIDE, x : x + SIDE] - b).sum()) / max(total, 1) for y, x in shifts
    )


def written(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Enlarge a digit, write it again with a random pen, and cut it to its ink.

    Returns:
        Ink, uint8, about 80 pixels high. Half of the pens stretch digits, as tight scans do.
    """
    import cv2

    much = rng.random() < 0.5
    stretch = np.exp(rng.uniform(0, np.log(1.8)) if much else rng.normal(0, 0.1))
    large = cv2.resize(image, (round(4 * SIDE * stretch), 4 * SIDE), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), rng.uniform(0.3, 2)).astype(np.float32)
    # A low level of the stroke's edge makes strokes wide.
    ink = ((soft - rng.uniform(50, 190)) * rng.uniform(2, 8) + 127).clip(0, 255).astype(np.uint8)
    if ink.max() < 255:  # the pen has erased the digit
        ink = large
    left, top, width, height = cv2.boundingRect((ink > 50).view(np.uint8))
    return ink[top : top + height, left : left + width]


def beside(left: Pixels, right: Pixels, *, rng: np.random.Generator) -> Pixels:
    """Put two digits side by side, about as high as each other, a little paper between them."""
    height = max(len(left), len(right))
    gap = round(height * rng.uniform(0, 0.2))
    ink = np.zeros((height, left.shape[1] + gap + right.shape[1]), np.uint8)
    for part, at in ((left, 0), (right, left.shape[1] + gap)):
        top = rng.integers(0, height - len(part) + 1)
        ink[top : top + len(part), at : at + part.shape[1]] = part
    # Digits that lean leave room: move the right one until the ink is as near as the gap.
    room = _room(ink[:, : left.shape[1]], ink[:, left.shape[1] + gap :])
    if room > 0:
        at = left.shape[1] + gap
        moved = np.zeros_like(ink)
        moved[:, : left.shape[1]] = ink[:, : left.shape[1]]
        moved[:, at - room : at - room + right.shape[1]] |= ink[:, at:]
        ink = moved[:, : at - room + right.shape[1]]
    return ink


def _room(left: Pixels, right: Pixels) -> int:
    """Return how far the right digit can move to the left before its ink meets the left one's."""
    a, b = left > 50, right > 50
    both = a.any(axis=1) & b.any(axis=1)
    if not both.any():
        return 0
    free = a[both, ::-1].argmax(axis=1) + b[both].argmax(axis=1)
    return int(min(free.min(), left.shape[1] - 1))


def presented(ink: Pixels, rng: np.random.Generator, *, plain: bool) -> Pixels:
    """Put ink on a picture: of any size, with or without margins, lines, light and grain.

    Args:
        ink: uint8 (h, w).
        rng: the source of all chance.
        plain: on clean paper.
    """
    import cv2

    small = float(np.exp(rng.uniform(np.log(12), np.log(90)))) / max(ink.shape)
    size = [max(2, round(side * small)) for side in ink.shape[::-1]]
    if small < 1:
        ink = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
    height, width = ink.shape
    longer = max(height, width)
    tight = rng.random() < 0.35
    margins = rng.integers(0, 4, 4) if tight else (longer * rng.uniform(0.1, 0.6, 4)).astype(int)
    top, bottom, left, right = (int(margin) for margin in margins)
    sheet = np.zeros((top + height + bottom, left + width + right), np.float32)
    if not tight and not plain and rng.random() < 0.6:
        _add_lines(sheet, rng)
    if not plain and rng.random() < 0.1:
        _add_neighbours(sheet, ink, rng=rng)
    place = sheet[top : top + height, left : left + width]
    np.maximum(place, ink, out=place)
    share = sheet / 255
    paper = np.full(sheet.shape, rng.uniform(150, 255), np.float32)
    photo = not plain and rng.random() < 0.5
    if photo:
        y, x = np.mgrid[: len(sheet), : sheet.shape[1]].astype(np.float32) / max(sheet.shape)
        light = 1 - rng.uniform(0, 0.5) * (rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y)
        paper = (paper * light).clip(60, 255)
    levels = paper * (1 - share * rng.uniform(0.25 if photo else 0.5, 0.95))
    if photo:
        soft: Array = cv2.GaussianBlur(levels, (0, 0), rng.uniform(0.3, 0.9))
        levels = soft + rng.normal(0, rng.uniform(1, 5), levels.shape)
    pixels: Pixels = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return 255 - pixels if rng.random() < 0.2 else pixels


def _add_lines(sheet: Array, rng: np.random.Generator) -> None:
    """Draw some of the lines of a box, tilted a little, near the border of a sheet, in place."""
    import cv2

    height, width = sheet.shape
    inset = rng.uniform(0, 0.08, 4) * min(sheet.shape)
    tilt = rng.normal(0, 0.015)
    pen = max(1, round(min(sheet.shape) * rng.uniform(0.01, 0.06)))
    level = float(rng.uniform(100, 255))
    x, y, right, bottom = inset[0], inset[1], width - 1 - inset[2], height - 1 - inset[3]
    over = rng.random() < 0.4  # the lines go on beyond the corners
    far = max(sheet.shape) if over else 0
    sides = [
        ((x - far, y), (right + far, y)),
        ((x - far, bottom), (right + far, bottom)),
        ((x, y - far), (x, bottom + far)),
        ((right, y - far), (right, bottom + far)),
    ]
    turn = np.array([[1, -tilt], [tilt, 1]])
    middle = np.array([width / 2, height / 2])
    drawn = np.zeros(sheet.shape, np.uint8)
    few = rng.random(4) < rng.choice([0.3, 0.6, 1.0])
    for side, some in zip(sides, few, strict=True):
        if some:
            ends = np.rint((np.array(side) - middle) @ turn.T + middle).astype(int)
            cv2.line(drawn, ends[0].tolist(), ends[1].tolist(), level, pen)
    np.maximum(sheet, drawn, out=sheet)


def _add_neighbours(sheet: Array, ink: Pixels, *, rng: np.random.Generator) -> None:
    """Put a piece of the ink at the left or right border of a sheet, in place."""
    piece = ink[:, : max(1, round(ink.shape[1] * rng.uniform(0.1, 0.4)))]
    height, width = min(len(piece), len(sheet)), min(piece.shape[1], sheet.shape[1])
    piece = piece[:height, :width]
    place = sheet[:height, -width:] if rng.random() < 0.5 else sheet[:height, :width]
    np.maximum(place, piece, out=place)
