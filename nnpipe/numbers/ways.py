"""The ways to understand a picture as a line of digits, each as a lattice.

As on a picture of one digit, it cannot always be told from the ink whether the paper is light, lit
evenly, or ruled; see `preprocess.hypotheses`.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from nnpipe import preprocess
from nnpipe.errors import PictureError
from nnpipe.numbers import line, pieces
from nnpipe.numbers.prior import placed
from nnpipe.preprocess import Grey, Picture, Pixels, Prepared, attempt, paper
from nnpipe.preprocess.pictures import grey, open_picture

ENOUGH = 1000
"""Pixels of the longer side at which a picture is examined, or up to twice as many."""

NARROW = 1.7
"""Width of a single digit, in heights."""

PLAIN, RULES_KEPT, INVERTED, EVEN = "plainly", "with its lines", "dark for light", "in even light"


class PreparedNumber(NamedTuple):
    """What the network is shown of a picture of a number."""

    lattices: tuple[pieces.Lattice, ...]  # one for each way, the simplest first; or none
    width: int  # of the picture, in its own pixels, upright
    height: int
    note: str = ""  # what the reader should know
    refusal: str = ""  # why it is not one number
    alone: Prepared | None = None  # the same picture as one digit, if its line is narrow
    cells: int = 0  # of how many boxes for one digit each it is a row; or 0


class Timed(NamedTuple):
    """A prepared picture, or its error, and the time that it took."""

    result: PreparedNumber | PictureError
    seconds: float


def prepare(
    picture: Picture | PictureError, *, separators: bool = False, cells: int = 0
) -> PreparedNumber:
    """Open a picture, and cut its number into pieces in each way that it may be understood.

    Args:
        picture: see `preprocess.prepare`; or why there is none, which is raised.
        separators: small marks between digits are kept.
        cells: of how many boxes of equal width, for one digit each, it is a row; or 0.

    Raises:
        PictureError: it cannot be read as a picture; the message says why, without a path.
    """
    if isinstance(picture, PictureError):
        raise picture
    opened = open_picture(picture, enough=ENOUGH)
    about = opened.width, opened.height, opened.note
    if opened.damage:
        return PreparedNumber((), *about, opened.damage)
    levels = grey(opened.image, enough=ENOUGH)
    lattices, refusal = understand(levels, separators=separators)
    scale, sides = opened.width / levels.shape[1], (opened.width, opened.height) * 2
    alone = preprocess.prepare(opened.image) if any(map(_is_narrow, lattices)) else None
    lattices = tuple(one._replace(boxes=(one.boxes * scale).clip(0, sides)) for one in lattices)
    if cells:
        lattices = tuple(placed(one, cells=cells, width=opened.width) for one in lattices)
    return PreparedNumber(lattices, *about, refusal, alone, cells)


def _is_narrow(lattice: pieces.Lattice) -> bool:
    """Return True if the ink may be a single digit."""
    left, top, right, bottom = lattice.boxes.T
    return bool(right.max() - left.min() < NARROW * (bottom.max() - top.min()))


def prepare_many(
    pictures: Iterable[Picture | PictureError],
    *,
    separators: bool = False,
    on_item: Callable[[int], None] = lambda number: None,
) -> list[Timed]:
    """Do what `prepare` does with many pictures; see `preprocess.prepare_many`."""
    results = []
    for number, picture in enumerate(pictures):
        on_item(number)
        start = time.perf_counter()
        result = attempt(prepare, picture, separators=separators)
        results.append(Timed(result, time.perf_counter() - start))
        on_item(-1)
    return results


def understand(levels: Grey, *, separators: bool = False) -> tuple[tuple[pieces.Lattice, ...], str]:
    """Build the lattices of a picture.

    Args:
        levels: brightness 0…255, shape (h, w).
        separators: small marks between digits are kept.

    Returns:
        The lattices, the simplest way first; or none, and the reason.
    """
    pixels: Pixels = np.rint(levels).astype(np.uint8)
    sheet = paper.look(pixels, pixels)
    ways = [(PLAIN, sheet.light, sheet.even, True), (RULES_KEPT, sheet.light, sheet.even, False)]
    if sheet.open:
        ways.append((INVERTED, not sheet.light, sheet.even, True))
    if not sheet.even:
        ways.append((EVEN, sheet.light, True, True))
    lattices, lines, refusals = list[pieces.Lattice](), list[line.Line](), list[str]()
    for way, light, even, printed in ways:
        if way == EVEN and lines[0].refusal:
            continue  # what stands out in even light alone is light and shade
        if way == RULES_KEPT and (lines[0].refusal or not lines[0].ruled):
            continue  # an empty box is no 0
        found = line.find(pixels, light=light, even=even, printed=printed, small=separators)
        if any(np.array_equal(found.strength, other.strength) for other in lines):
            continue
        lines.append(found)
        built = None if found.refusal else pieces.lattice(found, way)
        if built:
            lattices.append(built)
        else:
            refusals.append(found.refusal or line.CROWDED)
    return tuple(lattices), "" if lattices else refusals[0]
