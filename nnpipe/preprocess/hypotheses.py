"""How a picture may be understood: each way, drawn as MNIST would have drawn its digit.

Whether the paper is light, whether a line is the frame of a box or a stroke, and whether what lies
at the border belongs to the digit cannot always be told from the ink. So each way that is possible
is prepared, and the network judges them; see `classifier.choose`.
"""

from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.preprocess import lines, marks, paper
from nnpipe.preprocess.drawing import draw
from nnpipe.preprocess.mnist_like import FAINTEST, SIDE
from nnpipe.preprocess.pictures import Grey, Pixels

SMALLEST, LARGEST = 64, 160
"""Pixels: the longer side at which a picture is examined."""

TINY = 24
"""Pixels: a picture whose longer side is shorter shows nothing but the digit."""

TWO = 40.0
"""Odds of one digit in two parts that stand side by side."""

ONLY_LINES = "blank: there are only lines"
CUT_OFF = "cut off by the border, or no digit; leave some paper around it"

Box = tuple[int, int, int, int]  # left, top, width, height


class Way(NamedTuple):
    """One way to understand a picture."""

    name: str
    strength: Pixels  # of the digit's ink, uint8 (h, w)
    refusal: str = ""  # why it is not one digit; empty if it may be one
    odds: float = 1.0  # how much less likely it is than the simplest way
    main: marks.Mark | None = None


def lay_out(levels: Pixels) -> Pixels:
    """Scale a picture so that its longer side has `SMALLEST` to `LARGEST` pixels."""
    longer = max(levels.shape)
    if SMALLEST <= longer <= LARGEST:
        return levels
    if longer > LARGEST:
        scale, how = LARGEST / longer, cv2.INTER_AREA
    else:
        scale, how = float(-(-SMALLEST // longer)), cv2.INTER_CUBIC
    height, width = (max(1, round(side * scale)) for side in levels.shape)
    return cv2.resize(levels, (width, height), interpolation=how)


def understand(levels: Grey) -> list[Way]:
    """Find the ways to understand a picture of brightness 0…255, shape (h, w), simplest first."""
    original = paper.as_grey(levels)
    return ways(lay_out(original), original)


def ways(levels: Pixels, original: Pixels) -> list[Way]:
    """Find the ways to understand a picture, the simplest first.

    Args:
        levels: brightness, uint8 (h, w), as `lay_out` returns it.
        original: the same before.
    """
    sheet = paper.look(levels, original)
    tiny = max(original.shape) < TINY
    found = _views(levels, light=sheet.light, even=sheet.even, tiny=tiny)
    if found[0].refusal == marks.NOTHING:
        return found
    if sheet.open:
        found += [
            way._replace(name=f"{way.name}, inverted", odds=way.odds * 3)
            for way in _views(levels, light=not sheet.light, even=sheet.even, tiny=tiny)
            if not way.refusal
        ]
    if not sheet.even:
        found += [
            way._replace(name=f"{way.name}, as if evenly lit", odds=way.odds * 2)
            for way in _views(levels, light=sheet.light, even=True, tiny=tiny, uncertain=True)
            if not way.refusal
        ]
    return found


def _views(
    levels: Pixels, *, light: bool, even: bool, tiny: bool, uncertain: bool = False
) -> list[Way]:
    """Find the ways for one polarity and one kind of paper."""
    strength = paper.ink(levels, light=light, even=even)
    if strength is None:
        return [Way("as it is", np.zeros_like(levels), marks.NOTHING)]
    found = [] if tiny else lines.find((strength > FAINTEST).view(np.uint8))
    plain = _chosen("as it is", strength, even=even, uncertain=uncertain)
    if not found:
        return plain
    sure = [line for line in found if line.sure]
    without = _without(strength, found, even=even)
    if 0 < len(sure) < len(found):
        # An upright line inside a frame may be a 1.
        without = [
            *_without(strength, sure, even=even),
            *(way._replace(odds=way.odds * 2) for way in without if not way.refusal),
        ]
    empty = without[0].refusal == ONLY_LINES
    if len(sure) > 2 or (empty and (len(sure) == 2 or any(line.alone for line in sure))):
        return without
    if len(sure) == 2:
        return without + [way._replace(odds=way.odds * 4) for way in plain]
    return plain + [way._replace(odds=way.odds * 2) for way in without]


def _without(strength: Pixels, found: list[lines.Line], *, even: bool) -> list[Way]:
    """Find the ways if some lines are no strokes."""
    rest = lines.remove(strength, found)
    ways = _chosen(f"without {len(found)} lines", rest, even=even, framed=True)
    if ways[0].refusal.startswith("blank"):
        return [ways[0]._replace(refusal=ONLY_LINES)]
    return ways


def _chosen(name: str, strength: Pixels, *, even: bool, framed: bool = False, uncertain: bool = False) -> list[Way]:
    """Choose the digit's marks in the ways that are possible."""
    choice = marks.choose(strength, even=even, framed=framed)
    refusal = choice.refusal
    if not refusal and not framed and _leans(choice, even=even and not uncertain):
        refusal = CUT_OFF
    found = [Way(name, choice.strength, refusal, 1.0, choice.main)]
    if not refusal and marks.are_two(choice.strength):
        found = [
            Way(name, choice.strength, marks.SEVERAL, 1.0, choice.main),
            Way(f"{name}, in two parts", choice.strength, "", TWO, choice.main),
        ]
    elif choice.cut or refusal == CUT_OFF:
        whole = marks.choose(strength, even=even, framed=framed, whole=True)
        found.append(Way(f"{name}, cut to its ink", whole.strength, whole.refusal, 3.0, whole.main))
    return found


def _leans(choice: marks.Choice, *, even: bool) -> bool:
    """Return True if the ink is more like a shadow, or a thing at the border, than like strokes."""
    digit = (choice.strength > FAINTEST).view(np.uint8)
    sides = digit[0], digit[-1], digit[:, 0], digit[:, -1]
    touching = [int(side.sum()) for side in sides]
    assert choice.main
    if not even:
        # A digit cut to its ink touches at least three borders, and leaves much paper free.
        leans = max(touching) > 0.5 * choice.main.size and np.count_nonzero(touching) < 3
        if leans or digit.mean() > 0.5:
            return True
    full = any(n > 0.95 * len(side) for n, side in zip(touching, sides, strict=True))
    if not full:
        return False
    radius = float(cv2.distanceTransform(digit, cv2.DIST_L2, 3).max())
    return radius > 0.2 * choice.main.size


def drawn(way: Way) -> Pixels:
    """Draw the digit of a way."""
    return draw(way.strength) if way.strength.any() else np.zeros((SIDE, SIDE), np.uint8)
