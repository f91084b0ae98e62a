"""How a picture may be understood: each way, drawn as MNIST would have drawn its digit.

Whether the paper is light, whether a line is the frame of a box or a stroke, and whether what lies
at the border belongs to the digit cannot always be told from the ink. So each way that is possible
is prepared, and the network judges them; see `classifier.choose`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.preprocess import lines, marks, paper
from nnpipe.preprocess.decoders import ENOUGH
from nnpipe.preprocess.drawing import draw
from nnpipe.preprocess.mnist_like import AS_IT_IS, FAINTEST, SIDE
from nnpipe.preprocess.pictures import Grey, Pixels

SMALLEST, LARGEST = 64, 160
"""Pixels: the longer side at which a picture is examined."""

TINY = 24
"""Pixels: a picture whose longer side is shorter shows nothing but the digit."""

INVERTED, EVENLY, LINE, FRAME_AFTER_ALL, INNER, CUT, TWO = 3.0, 2.0, 2.0, 4.0, 5.0, 3.0, 40.0
"""Odds: of the other polarity if both are possible; of even light on a photo; of a line being no
stroke; of two lines being strokes; of a line inside a frame being none; of a picture being cut in
another way; of one digit in two parts that stand side by side."""

CLEAR = 0.2
"""Share of their height: two parts that are further apart are two digits without doubt."""

BROKEN = 0.12
"""Share of a digit's size: half of the widest gap in a digit that a scanner has broken."""

CLOSE = 20
"""Pixels of a sheet: a smaller digit is looked at more closely, if the picture has more pixels."""

LOOKS = 3
"""How often a picture is looked at, each time more closely."""

FEWEST = 8
"""Pixels of the picture itself: what is smaller on a large picture is a speck."""

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture

ONLY_LINES = "blank: there are only lines"
CUT_OFF = "cut off by the border, or no digit; leave some paper around it"


class Way(NamedTuple):
    """One way to understand a picture."""

    name: str
    strength: Pixels  # of the digit's ink, uint8 (h, w)
    refusal: str = ""  # why it is not one digit; empty if it may be one
    odds: float = 1.0  # how much less likely it is than the simplest way
    main: marks.Mark | None = None  # its heaviest mark, if there is one


def rarer(ways: Iterable[Way], odds: float, *, suffix: str = "") -> list[Way]:
    """Return ways that are less likely by a factor; a refusal is none."""
    return [
        way._replace(name=way.name + suffix, odds=way.odds * odds)
        for way in ways
        if not way.refusal
    ]


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


def understand(levels: Grey, closer: Callable[[Box], Grey] | None = None) -> list[Way]:
    """Find the ways to understand a picture, the simplest first.

    Args:
        levels: brightness 0…255, shape (h, w).
        closer: returns the brightness of a part of the picture in its full resolution; by default
            the picture is looked at once.
    """
    found: list[Way] = []
    box = 0.0, 0.0, 1.0, 1.0
    for look in range(1, LOOKS + 1):
        original = np.rint(levels).astype(np.uint8)
        sheet = lay_out(original)
        nearer = ways(sheet, original)
        main, refusal = nearer[0].main, nearer[0].refusal
        pixels = main.size * max(levels.shape) / max(sheet.shape) if main else 0
        if not found or (pixels >= FEWEST and not refusal.startswith("blank")):
            found = nearer
        far = main and main.size < CLOSE and max(levels.shape) > LARGEST
        if not main or not far or refusal not in ("", marks.SPECKS, CUT_OFF):
            break
        if closer is None or look == LOOKS:
            break
        box = _around(main, sheet.shape, within=box)
        levels = closer(box)
    return [way for index, way in enumerate(found) if not _is_known(way, found[:index])]


def _is_known(way: Way, earlier: list[Way]) -> bool:
    """Return True if an earlier way shows the same ink and is no refusal."""
    return any(
        not other.refusal and np.array_equal(other.strength, way.strength) for other in earlier
    )


def _around(main: marks.Mark, shape: tuple[int, int], *, within: Box) -> Box:
    """Return the surroundings of a mark on a sheet that shows a part of a picture."""
    reach = 1.5 * max(main.size, CLOSE / 4)
    height, width = shape
    x, y = main.left + main.width / 2, main.top + main.height / 2
    left, top, right, bottom = within
    across, down = (right - left) / width, (bottom - top) / height
    return (
        max(left, left + (x - reach) * across),
        max(top, top + (y - reach) * down),
        min(right, left + (x + reach) * across),
        min(bottom, top + (y + reach) * down),
    )


def ways(levels: Pixels, original: Pixels) -> list[Way]:
    """Find the ways to understand a picture, the simplest first.

    Args:
        levels: brightness, uint8 (h, w), as `lay_out` returns it.
        original: the same before.
    """
    sheet, size = paper.look(levels, original), max(original.shape)
    found = _on_paper(levels, light=sheet.light, even=sheet.even, size=size)
    if found[0].refusal == marks.NOTHING and sheet.open and size >= ENOUGH:
        sheet = sheet._replace(light=not sheet.light, open=False)
        found = _on_paper(levels, light=sheet.light, even=sheet.even, size=size)
    if found[0].refusal == CUT_OFF and sheet.even:  # rather light and shade of two levels
        return _on_paper(levels, light=sheet.light, even=False, size=size)
    if len(found) == 1 and found[0].refusal.startswith("blank"):
        return found
    if sheet.open:
        other = _on_paper(levels, light=not sheet.light, even=sheet.even, size=size)
        found += rarer(other, INVERTED, suffix=", dark for light")
    if not sheet.even:
        other = _on_paper(levels, light=sheet.light, even=True, size=size, sure=False)
        wide = other[0].strength
        if other[0].refusal == CUT_OFF and _is_rim(found[0].strength, of=wide, levels=levels):
            return [found[0]._replace(refusal=CUT_OFF)]
        found += rarer(other, EVENLY, suffix=", in even light")
    return found


def _is_rim(ink: Pixels, *, of: Pixels, levels: Pixels) -> bool:
    """Return True if the ink of a photo is but the rim of something wide, and not darker than it.

    What is wider than strokes counts as shade, except at its rim.
    """
    wide, rim = of > FAINTEST, ink > FAINTEST
    inside, outside = wide & ~rim, ~wide & ~rim
    if not (rim.any() and inside.any() and outside.any()) or wide[rim].mean() < 0.8:
        return False
    at_rim, within, paper_level = (float(levels[part].mean()) for part in (rim, inside, outside))
    return abs(at_rim - within) < 0.25 * abs(at_rim - paper_level)


def _on_paper(
    levels: Pixels, *, light: bool, even: bool, size: int, sure: bool = True
) -> list[Way]:
    """Find the ways for one polarity and one kind of light; ``size`` is that of the original."""
    strength = paper.ink(levels, light=light, even=even, large=size >= ENOUGH)
    if strength is None:
        return [Way(AS_IT_IS, np.zeros_like(levels), marks.NOTHING)]
    strength = marks.without_dust(strength)
    while (inside := marks.inside(strength)) is not None:
        strength = inside
    found = [] if size < TINY else lines.find((strength > FAINTEST).view(np.uint8))
    certain = lines.certain(found)
    frame = lines.make_a_frame(certain)
    plain = [] if frame else _choose(strength, drawing=even and sure)
    if plain and plain[0].refusal == marks.SEVERAL:
        found = certain = [line for line in found if line.long]  # the others may be digits
        if any(
            line.vertical and line.last - line.first < _height(strength, found) for line in found
        ):
            return plain  # as high as the digit beside it: a 1
    if not found:
        return plain
    without = _without(strength, found)
    if 0 < len(certain) < len(found):  # an upright line inside a frame may be a 1
        without = [*_without(strength, certain), *rarer(without, INNER)]
    empty = without[0].refusal == ONLY_LINES
    if frame or (empty and (len(certain) == 2 or any(line.alone for line in certain))):
        return without
    if len(certain) == 2:
        return without + rarer(plain, FRAME_AFTER_ALL)
    return plain + rarer(without, 1 if found[0].under or found[0].long else LINE)


def _without(strength: Pixels, found: list[lines.Line]) -> list[Way]:
    """Find the ways if some lines are no strokes."""
    rest = lines.remove(strength, found)
    choice = marks.choose(rest, border=False, remains=True)
    refusal = ONLY_LINES if choice.refusal.startswith("blank") else choice.refusal
    name = "without a line" if len(found) == 1 else f"without {len(found)} lines"
    return _in_parts(Way(name, choice.strength, refusal, 1.0, choice.main))


def _height(strength: Pixels, found: list[lines.Line]) -> float:
    """Return a little more than the height of the digit beside lines, or 0 if there is none."""
    main = marks.choose(lines.remove(strength, found), border=True).main
    return 1.2 * main.height if main else 0.0


def _in_parts(way: Way) -> list[Way]:
    """Return a way; if its digit may be two digits, as a refusal and as a way that is rare."""
    gap = None if way.refusal else marks.gap_between_two(way.strength)
    if gap is None:
        return [way]
    two = way._replace(refusal=marks.SEVERAL)
    return [two] if gap > CLEAR else [two, way._replace(odds=TWO)]


def _choose(strength: Pixels, *, drawing: bool) -> list[Way]:
    """Choose the digit's marks in the ways that are possible."""
    choice = marks.choose(strength, border=drawing)
    refusal = choice.refusal
    if not refusal and _leans(choice, drawing=drawing):
        refusal = CUT_OFF
    found = _in_parts(Way(AS_IT_IS, choice.strength, refusal, 1.0, choice.main))
    if refusal in (marks.NOTHING, marks.SPECKS, marks.CROWDED):
        return found
    others = []
    at_side = any(_touching(choice.strength)[2:])  # pieces of neighbours may have been joined
    if drawing and (choice.edge or at_side):
        others.append(("without its neighbours", False, False, 0.0))
    elif np.count_nonzero(_touching(strength)) > 2:
        others.append(("cut to its ink", True, False, marks.REACH))
    if choice.edge:
        others.append(("without what lies at the border", drawing, True, marks.REACH))
    if refusal == marks.SEVERAL:
        others.append(("all pieces joined", drawing, False, BROKEN))
    for name, border, remains, reach in others:
        other = marks.choose(strength, border=border, remains=remains, reach=reach)
        differs = refusal or not np.array_equal(other.strength, choice.strength)
        if not other.refusal and differs:
            way = Way(name, other.strength, "", CUT, other.main)
            found += [part for part in _in_parts(way) if not part.refusal]
    tail = marks.tail(choice)
    if tail is not None and not refusal:
        found.append(
            Way("without the stroke from the border", choice.strength * ~tail, "", CUT, choice.main)
        )
    return found


def _leans(choice: marks.Choice, *, drawing: bool) -> bool:
    """Return True if the ink is more like a shadow, or a thing at the border, than like strokes."""
    size = choice.main.size if choice.main else 0
    digit = (choice.strength > FAINTEST).view(np.uint8)
    touching = _touching(choice.strength)
    if not drawing:
        # A digit cut to its ink touches at least three borders, and leaves much paper free.
        leans = max(touching) > 0.5 * size and np.count_nonzero(touching) < 3
        if leans or digit.mean() > 0.5:
            return True
    height, width = digit.shape
    if max(touching[2:]) > 0.95 * height and choice.main and choice.main.width < 0.3 * width:
        return True  # a dark edge: a 1 that is cut to its ink leaves no paper beside it
    if max(touching[:2]) <= 0.95 * width and max(touching[2:]) <= 0.95 * height:
        return False
    return float(cv2.distanceTransform(digit, cv2.DIST_L2, 3).max()) > 0.2 * size


def _touching(strength: Pixels) -> list[int]:
    """Count the pixels of ink at the top, bottom, left and right border."""
    sides = strength[0], strength[-1], strength[:, 0], strength[:, -1]
    return [int(np.count_nonzero(side > FAINTEST)) for side in sides]


def drawn(way: Way) -> Pixels:
    """Draw the digit of a way."""
    return draw(way.strength) if way.strength.any() else np.zeros((SIDE, SIDE), np.uint8)
