"""Numbers of several handwritten digits, composed from single digits, as people present them.

A *writer* has one pen, slant and spacing for all digits of a number. The number stands on plain
paper or on a form, next to other marks, and is scanned or photographed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nnpipe.datasets import Digits, drawn
from nnpipe.errors import DatasetError, ProcessError
from nnpipe.preprocess import Pixels
from nnpipe.preprocess.drawing import draw
from nnpipe.processes import cores, over

KINDS = ("apart", "close", "touching", "boxes", "comb", "ruled", "marked")
"""What makes a number easy or hard to cut: the first three are on plain paper and differ in the
gaps between digits; "boxes", "comb" and "ruled" have printed lines; "marked" has other ink."""

SHARES = (0.2, 0.2, 0.15, 0.1, 0.05, 0.15, 0.15)
"""How frequent each kind is."""

SHARE_DRAWN = 0.25
"""Share of the numbers whose digits are drawn, with forms that MNIST lacks, such as a crossed 7."""

BATCH = 250
"""Numbers per task of a worker process; up to this many are composed without worker processes."""

SECONDS = 600
"""Time limit of a batch, which usually takes a second."""

HEIGHT = 72
"""Height of digits when they are written, in pixels."""

SMALLEST, LARGEST = 12, 90
"""Least and greatest height of digits in a picture, in pixels."""

INK = 50
"""Least strength of a pixel that counts as ink."""

SEPARATORS = {
    ".": "0,-4 5,-2",
    ",": "8,-6 8,2 0,16",
    "-": "0,-48 35,-50",
    ":": "6,-62 9,-60 | 4,-14 7,-12",
    "/": "42,-115 0,15",
}
"""Strokes of the marks between digits: x,y in per cent of the digits' height, y down from the
baseline. "|" lifts the pen."""

SIGNS = (
    "66,-92 48,-100 28,-88 18,-50 28,-12 48,0 66,-8 | 0,-62 50,-62 | 0,-40 48,-40",  # €
    "50,-85 25,-95 5,-75 25,-52 48,-30 28,-5 0,-15 | 28,-112 24,14",  # $
    "0,-60 45,-62 | 2,-36 46,-38",  # =
    "8,-6 8,2 0,16 | 25,-45 85,-48",  # ,-
    "0,-60 0,-2 | 0,-20 14,-58 24,-55 26,-2 | 26,-22 40,-58 52,-52 54,0",  # m
    "0,0 10,-100 | 30,2 42,-98 | -8,-66 56,-68 | -14,-32 50,-34",  # #
    "0,-100 -22,-70 -28,-30 -12,8",  # (
)
"""Strokes of the marks before or after a number."""

Array = NDArray[np.float32]

NO_LINES: Array = np.zeros((0, 2, 2), np.float32)


class Composed(NamedTuple):
    """A picture of a number, and what a perfect reader would find in it."""

    picture: Pixels  # uint8 (h, w), brightness as in a scan or photo
    label: str  # its n digits, with leading zeros, without separators
    spelled: str  # the same with its separators, such as "12,50"
    digits: tuple[Pixels, ...]  # n times (28, 28): each digit alone, as `drawing.draw` shows it
    boxes: Array  # (n, 4) left, top, right, bottom of each digit's ink, in pixels of the picture
    kind: str  # one of KINDS


class Writer(NamedTuple):
    """What the digits of a number have in common. Lengths are in heights of the digits."""

    height: float  # of digits in the picture, in pixels
    rng: np.random.Generator
    pen: float  # width of the strokes
    hard: float  # contrast of the strokes' edges
    stretch: float  # factor of the width
    slant: float  # to the right
    tilt: float  # of the line, down to the right, in radians
    spread: float  # standard deviation of the logarithm of the height
    jitter: float  # standard deviation of the distance from the baseline


class Glyph(NamedTuple):
    """The ink of a digit or mark, cut to its ink, and its place in the number, in pixels."""

    ink: Pixels
    left: int
    top: int
    text: str = ""  # a digit or separator

    @property
    def right(self) -> int:
        """Column after the last one."""
        return self.left + int(self.ink.shape[1])

    @property
    def bottom(self) -> int:
        """Row after the last one."""
        return self.top + len(self.ink)


def compose(
    digits: Digits,
    rng: np.random.Generator,
    *,
    count: int,
    length: tuple[int, int] = (2, 10),
    kind: str | None = None,
) -> list[Composed]:
    """Compose numbers of random digits; the same state of ``rng`` gives the same pictures.

    Args:
        digits: those that the numbers consist of, like MNIST's.
        rng: the source of all chance.
        count: how many numbers.
        length: fewest and most digits of a number.
        kind: one of `KINDS`; by default each number has a random kind, see `SHARES`.

    Raises:
        DatasetError: worker processes crashed repeatedly.
    """
    # Each number has a seed of its own, so that the processes do not matter.
    seeds = rng.integers(0, 2**32, count).tolist()
    lengths = rng.integers(length[0], length[1] + 1, count)
    rows = np.split(rng.integers(0, len(digits.labels), lengths.sum()), np.cumsum(lengths))[:-1]
    tasks = [
        (digits.images[some], digits.labels[some], seed, kind)
        for some, seed in zip(rows, seeds, strict=True)
    ]
    batches = [tasks[start : start + BATCH] for start in range(0, count, BATCH)]
    if len(batches) < 2:
        return [number for batch in batches for number in _compose(batch)]
    numbers: list[Composed] = []
    try:
        for result in over(_compose, batches, seconds=SECONDS, workers=cores()):
            if isinstance(result, ProcessError):
                raise result
            numbers += result
    except ProcessError as error:
        raise DatasetError(
            f"a process that composes numbers has ended ({error}); give the machine more memory"
        ) from None
    return numbers


Task = tuple[Pixels, NDArray[np.integer], int, str | None]


def _compose(tasks: Sequence[Task]) -> list[Composed]:
    return [_compose_one(task) for task in tasks]


def _compose_one(task: Task) -> Composed:
    images, labels, seed, kind = task
    rng = np.random.default_rng(seed)
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    if rng.random() < SHARE_DRAWN:
        images = drawn.draw(labels, rng, hand=drawn.ABROAD)
    writer = _writer(rng)
    inks = [_written(image, writer) for image in images]
    glyphs = [Glyph(ink, 0, -len(ink), text=str(d)) for ink, d in zip(inks, labels, strict=True)]
    extras = rng.random(5) < (0.6, 0.4, 0.3, 0.2, 0.3) if kind == "marked" else np.zeros(5, bool)
    if kind == "marked" and not extras.any():
        extras[0] = True
    has_separators, has_sign, has_specks, has_dashes, has_neighbours = extras
    if has_separators and len(glyphs) > 1:
        glyphs = _separated(glyphs, writer)
    if has_sign:
        at = 0 if rng.random() < 0.4 else len(glyphs)
        glyphs.insert(at, _mark(str(rng.choice(SIGNS)), writer))
    in_cells = kind == "comb" or (kind == "boxes" and rng.random() < 0.6)
    pitch = writer.height * rng.uniform(0.8, rng.choice([1.3, 2.5])) if in_cells else 0
    spacing = kind if kind in KINDS[:3] else str(rng.choice(KINDS[:3], p=[0.5, 0.35, 0.15]))
    glyphs = _arranged(glyphs, writer, spacing=spacing, pitch=pitch)
    lines = _lines(glyphs, writer, kind=kind, pitch=pitch)
    margins = _margins(writer)
    with_lines = kind in ("boxes", "comb") and rng.random() < 0.7
    place = _extent(glyphs, lines if with_lines else NO_LINES)
    place += margins * (-1, -1, 1, 1)
    place[2:] = np.maximum(place[2:], place[:2] + 4)
    left, top, right, bottom = place.tolist()
    ink = np.zeros((bottom - top, right - left), np.uint8)
    for glyph in glyphs:
        _put(ink, glyph.ink, left=glyph.left - left, top=glyph.top - top)
    if has_dashes:
        _add_dashes(ink, writer)
    if has_specks:
        _add_specks(ink, writer)
    if has_neighbours:
        _add_neighbours(ink, writer)
    print_ = _printed(lines - (left, top), writer, shape=ink.shape)
    digits = [glyph for glyph in glyphs if glyph.text.isdigit()]
    boxes = np.array([(g.left, g.top, g.right, g.bottom) for g in digits]) - [left, top] * 2
    return Composed(
        picture=_presented(ink, writer, print_=print_),
        label="".join(glyph.text for glyph in digits),
        spelled="".join(glyph.text for glyph in glyphs),
        digits=tuple(draw(part) for part in inks),
        boxes=boxes.clip(0, ink.shape[::-1] * 2).astype(np.float32),
        kind=kind,
    )


def _writer(rng: np.random.Generator) -> Writer:
    height = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    return Writer(
        height=height,
        rng=rng,
        pen=max(min(float(np.exp(rng.normal(np.log(0.09), 0.4))), 0.16), 1 / height),
        hard=rng.uniform(0.4, 1.5),
        stretch=float(np.exp(rng.normal(-0.12, 0.2))),
        slant=rng.normal(0.12, 0.18),
        tilt=float(np.clip(rng.normal(0, rng.choice([0.01, 0.05], p=[0.6, 0.4])), -0.1, 0.1)),
        spread=rng.uniform(0.02, 0.1) if rng.random() < 0.7 else rng.uniform(0.1, 0.3),
        jitter=rng.uniform(0, 0.06),
    )


# --- ink ------------------------------------------------------------------------------------------


def _written(image: Pixels, writer: Writer) -> Pixels:
    """Write a digit again with the writer's pen and slant, about ``HEIGHT`` pixels high."""
    rng = writer.rng
    x, y, width, height = cv2.boundingRect((image > INK).view(np.uint8))
    size = np.exp(rng.normal(0, 0.2 if rng.random() < 0.1 else writer.spread))
    # MNIST's digits fit into a square, so wide ones are low: make them nearly as high as others.
    scale = size * HEIGHT / height * (height / 20) ** 0.3
    moments = cv2.moments(image)
    own = -moments["mu11"] / max(moments["mu02"], 1)
    slant = writer.slant + rng.normal(0, 0.05) - 0.6 * np.clip(own, -1, 1)
    wide = scale * writer.stretch
    wide *= min(1, 1.3 * HEIGHT / (wide * width))
    matrix = np.array([[wide, -slant * scale, 0], [wide * writer.tilt, scale, 0]])
    border = 4 + writer.pen * HEIGHT / 2
    reach = np.abs(matrix[:, :2]) @ (width, height) + 2 * border
    matrix[:, 2] = reach / 2 - matrix[:, :2] @ (x + width / 2 - 0.5, y + height / 2 - 0.5)
    columns, rows = np.ceil(reach).astype(int).tolist()
    large = cv2.warpAffine(image, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(large, (0, 0), HEIGHT / 60)
    # A lower level would fill small loops, and one level for all would break faint strokes.
    around = np.ones((HEIGHT // 4, HEIGHT // 4), np.uint8)
    level = 0.55 * np.maximum(cv2.dilate(soft, around), 0.4 * soft.max())
    return _penned((soft > level).view(np.uint8), writer)


def _cropped(ink: Pixels) -> tuple[Pixels, int]:
    """Cut a picture to its ink; return it and its first row."""
    left, top, width, height = cv2.boundingRect((ink > INK).view(np.uint8))
    cut: Pixels = ink[top : top + height, left : left + width]
    return cut, int(top)


def _penned(shape: Pixels, writer: Writer) -> Pixels:
    """Draw along the middle of a shape's strokes with the writer's pen; cut to the ink."""
    inside: Array = cv2.distanceTransform(shape, cv2.DIST_L2, 5)
    # The distance to the edge grows by 1 per pixel, but not in the middle of a stroke.
    slope = np.hypot(cv2.Sobel(inside, -1, 1, 0), cv2.Sobel(inside, -1, 0, 1)) / 8
    middle = (shape > 0) & (slope < 0.7) | (inside == inside.max())
    # A pen much wider than that of the digit would fill its loops.
    usual = float(inside[middle].mean())
    radius = min(writer.pen * HEIGHT / 2, 1.05 * usual)
    to_middle: Array = cv2.distanceTransform((~middle).view(np.uint8), cv2.DIST_L2, 5)
    # Strokes of uneven width remain a little uneven.
    extra = inside - max(usual * 1.2 - radius, 0)
    depth = np.maximum(radius - to_middle, np.where(shape > 0, extra, -np.inf))
    ink = (255 * (depth * writer.hard + 0.5)).clip(0, 255).astype(np.uint8)
    return _cropped(ink)[0]


def _mark(strokes: str, writer: Writer, *, text: str = "") -> Glyph:
    """Draw the strokes of a mark with the writer's pen and slant."""
    shape = np.zeros((2 * HEIGHT, 3 * HEIGHT), np.uint8)
    baseline, start = round(1.4 * HEIGHT), HEIGHT
    for stroke in strokes.split("|"):
        points = np.array([point.split(",") for point in stroke.split()], np.float64)
        points *= HEIGHT / 100
        points[:, 0] -= writer.slant * points[:, 1]
        points += (start, baseline)
        ends, pen = np.rint(points).astype(np.int32), max(2, round(writer.pen * HEIGHT))
        cv2.polylines(shape, [ends], False, 255, pen, cv2.LINE_AA)
    ink, top = _cropped(shape)
    return Glyph(ink, 0, top - baseline, text)


def _separated(digits: list[Glyph], writer: Writer) -> list[Glyph]:
    """Put one or two equal separators between digits."""
    rng = writer.rng
    text = str(rng.choice(list(SEPARATORS), p=[0.3, 0.3, 0.2, 0.15, 0.05]))
    mark = _mark(SEPARATORS[text], writer, text=text)
    most = min(2, len(digits) - 1)
    places = rng.choice(np.arange(1, len(digits)), rng.integers(1, most + 1), replace=False)
    for place in sorted(places.tolist(), reverse=True):
        digits = [*digits[:place], mark, *digits[place:]]
    return digits


def _arranged(glyphs: list[Glyph], writer: Writer, *, spacing: str, pitch: float) -> list[Glyph]:
    """Shrink glyphs to their size in the picture, and put them in a row or in cells."""
    rng = writer.rng
    height, count = writer.height, len(glyphs)
    wide = rng.random() < 0.2
    usual = height * (rng.uniform(0.6, 0.7 + 4 / count) if wide else rng.uniform(0.15, 0.6))
    touching = rng.random(count) < 0.25
    touching[rng.integers(min(1, count - 1), count)] = True  # at least one, but not the first
    zero = round((4 + 5 * count * abs(writer.tilt)) * height)
    edge = np.full(2 * zero, -np.inf)  # first free column of each row; ``zero`` is the baseline
    arranged: list[Glyph] = []
    for number, glyph in enumerate(glyphs):
        size = [max(1, round(side * height / HEIGHT)) for side in glyph.ink.shape[::-1]]
        ink = cv2.resize(glyph.ink, size, interpolation=cv2.INTER_AREA)
        drop = glyph.top * height / HEIGHT + rng.normal(0, writer.jitter) * height
        is_mark = not glyph.text.isdigit()
        end = arranged[-1].right if arranged else 0
        top = round(drop + writer.tilt * (end if not pitch else number * pitch))
        some = (ink > INK).any(axis=1)
        rows = np.flatnonzero(some) + top + zero
        first = (ink > INK).argmax(axis=1)[some]
        if pitch:
            left = (number + 0.5) * pitch - size[0] / 2 + rng.normal(0, 0.08) * height
        elif spacing == "apart":
            left = end + max(2, usual * np.exp(rng.normal(0, 0.2)) * (0.5 if is_mark else 1))
        else:
            touches = spacing == "touching" and touching[number] and not is_mark
            gap = max(2, rng.uniform(0.03, 0.15) * height)
            if touches:
                gap = -1 - rng.uniform(0, 0.06) * height
            around = edge if touches else cv2.dilate(edge[:, None], np.ones((5, 1)))[:, 0]
            near = float((around[rows] - first).max(initial=-np.inf))
            left = (near if np.isfinite(near) else end) + gap
            if arranged:
                left = max(left, arranged[-1].left + 0.4 * arranged[-1].ink.shape[1])
        placed = Glyph(ink, round(left), top, glyph.text)
        last = ink.shape[1] - (ink > INK)[:, ::-1].argmax(axis=1)[some]
        edge[rows] = np.maximum(edge[rows], placed.left + last)
        arranged.append(placed)
    return arranged


# --- print ----------------------------------------------------------------------------------------


def _extent(glyphs: list[Glyph], lines: Array) -> NDArray[np.int64]:
    """Return left, top, right, bottom of glyphs and lines (k, 2, 2) together."""
    corners = [[(glyph.left, glyph.top), (glyph.right, glyph.bottom)] for glyph in glyphs]
    points = np.concatenate([corners, lines]).reshape(-1, 2)
    return np.rint([*points.min(axis=0), *points.max(axis=0)]).astype(np.int64)


def _lines(glyphs: list[Glyph], writer: Writer, *, kind: str, pitch: float) -> Array:
    """Return the printed lines of a kind of number: start and end, (k, 2, 2), x and y in pixels."""
    rng = writer.rng
    height = writer.height
    left, top, right, bottom = _extent(glyphs, NO_LINES).tolist()
    upper = top - rng.uniform(-0.05, 0.6) * height
    lower = bottom + rng.uniform(-0.05, 0.6) * height
    pad = rng.uniform(-0.05, 0.5, 2) * height
    if pitch:
        before, after = rng.integers(0, 4, 2) * (rng.random(2) < 0.15)
        edges = np.arange(-before, len(glyphs) + after + 1) * pitch
    elif len(glyphs) < 6 and rng.random() < 0.6:  # all are in the first cell
        edges = left - pad[0] + np.arange(rng.integers(3, 6)) * (right - left + pad.sum())
    else:
        edges = np.array([left - pad[0], right + pad[1]])
    lines: list[tuple[float, float, float, float]] = []
    if kind == "boxes":
        inset = pitch * rng.uniform(0.02, 0.12) if rng.random() < 0.3 else 0
        for start, end in zip(edges[:-1] + inset, edges[1:] - inset, strict=True):
            lines += [(start, upper, start, lower), (end, upper, end, lower)]
            lines += [(start, upper, end, upper), (start, lower, end, lower)]
    elif kind == "comb":
        ticks = edges[1:-1] if rng.random() < 0.5 else edges
        upper = lower - rng.uniform(0.2, 1) * (lower - upper)
        lines += [(tick, upper, tick, lower) for tick in ticks]
        if rng.random() < 0.6:
            lines.append((edges[0], lower, edges[-1], lower))
    elif kind == "ruled" and rng.random() < 0.5:
        line = bottom + rng.uniform(-0.1, 0.25) * height
        lines.append((left - pad[0], line, right + pad[1], line))
        if rng.random() < 0.2:
            lower = line + rng.uniform(0.08, 0.2) * height
            lines.append((left - pad[0], lower, right + pad[1], lower))
    elif kind == "ruled":
        far, step = 8 * height, rng.uniform(0.9, 2) * height
        start = bottom + rng.uniform(-0.6, 0.3) * height
        for line in start + np.arange(-4, 5) * step:
            lines.append((left - far, line, right + far, line))
    turn = rng.normal(0, 0.01) + (writer.tilt if rng.random() < 0.5 else 0)
    middle = ((left + right) / 2, (top + bottom) / 2)
    ends = np.array(lines, np.float32).reshape(-1, 2, 2) - middle
    if rng.random() < 0.4:  # a scan has lost some
        ends = ends[rng.random(len(ends)) < 0.6]
    turned: Array = (ends @ np.array([[1, turn], [-turn, 1]]) + middle).astype(np.float32)
    return turned


def _printed(lines: Array, writer: Writer, *, shape: tuple[int, ...]) -> Pixels:
    """Draw lines, whole or in pieces, on a sheet."""
    rng = writer.rng
    print_ = np.zeros(shape, np.uint8)
    if not len(lines):
        return print_
    pen = max(1, round(writer.height * rng.uniform(0.01, 0.07)))
    level = int(rng.integers(60, 256))
    for start, end in np.rint(lines * 16).astype(int).tolist():
        cv2.line(print_, start, end, level, pen, cv2.LINE_AA, 4)
    if rng.random() < 0.3:
        print_[_patches(shape, rng, size=0.15 * writer.height) < rng.uniform(0.2, 0.5)] = 0
    return print_


def _patches(shape: tuple[int, ...], rng: np.random.Generator, *, size: float) -> Array:
    """Return a field of smooth random patches between 0 and 1, of this size in pixels."""
    rows, columns = (max(2, round(side / max(size, 1))) for side in shape)
    field: Array = np.asarray(cv2.resize(rng.random((rows, columns), np.float32), shape[::-1]))
    return field


# --- the sheet ------------------------------------------------------------------------------------


def _margins(writer: Writer) -> NDArray[np.int64]:
    """Return the margins on the left, top, right and bottom; below 0, strokes are cut."""
    rng = writer.rng
    margins = writer.height * rng.uniform(0.1, 0.8, 4)
    if writer.height < 40 and rng.random() < 0.15:
        margins *= rng.uniform(2, 6)
    tight = rng.random(4) < rng.choice([0, 0.5, 1], p=[0.6, 0.2, 0.2])
    return np.where(tight, rng.integers(-1, 3, 4), margins).astype(np.int64)


def _put(sheet: Pixels, ink: Pixels, *, left: int, top: int) -> None:
    """Put ink on a sheet, in place; what is outside is lost."""
    x, y = max(left, 0), max(top, 0)
    place = sheet[y : max(top + len(ink), 0), x : max(left + ink.shape[1], 0)]
    part = ink[y - top :, x - left :][: place.shape[0], : place.shape[1]]
    np.maximum(place, part, out=place)


def _add_dashes(ink: Pixels, writer: Writer) -> None:
    """Add dashes above or below the number, in place, where there is room."""
    rng = writer.rng
    rows = np.flatnonzero((ink > INK).any(axis=1))
    height = writer.height
    for y in (rows[0] - 0.15 * height, rows[-1] + 0.15 * height):
        start, end = np.sort(rng.uniform(0, ink.shape[1], 2))
        left, right = (
            (round(start), round(y)),
            (round(end), round(y + rng.normal(0, 0.05) * height)),
        )
        cv2.line(ink, left, right, 255, max(1, round(writer.pen * height)), cv2.LINE_AA)


def _add_specks(ink: Pixels, writer: Writer) -> None:
    """Add specks of dirt, in place."""
    rng = writer.rng
    for _ in range(rng.integers(1, 15)):
        x, y = rng.uniform(0, ink.shape[1]), rng.uniform(0, len(ink))
        radius = writer.height * rng.uniform(0.005, 0.05)
        cv2.circle(ink, [round(16 * x), round(16 * y)], round(16 * radius), 255, -1, cv2.LINE_AA, 4)


def _add_neighbours(ink: Pixels, writer: Writer) -> None:
    """Add a piece of another line of writing at the upper or lower border, in place."""
    rng = writer.rng
    rows = np.flatnonzero((ink > INK).any(axis=1))
    above = rng.random() < 0.5
    room = (rows[0] if above else len(ink) - 1 - rows[-1]) - 2
    size = min(int(room), round(writer.height * rng.uniform(0.1, 0.4)))
    if size < 1:
        return
    middle = (rows[0] + rows[-1]) // 2
    piece = np.roll(ink[middle:][:size] if above else ink[:middle][-size:], ink.shape[1] // 3, 1)
    _put(ink, piece, left=0, top=0 if above else len(ink) - size)


def _presented(ink: Pixels, writer: Writer, *, print_: Pixels) -> Pixels:
    """Return the brightness of a sheet with ink and print, as a scan or a photo shows it."""
    rng = writer.rng
    shape = ink.shape
    way = str(rng.choice(["scan", "black and white", "photo"], p=[0.4, 0.2, 0.4]))
    strength = ink.astype(np.float32) / 255
    if rng.random() < 0.3:  # a pencil, or a pen that fails
        strength *= 1 - rng.uniform(0.2, 0.7) * _patches(shape, rng, size=0.05 * writer.height)
    np.maximum(strength, print_ / np.float32(255), out=strength)
    paper = np.full(shape, rng.uniform(190, 255), np.float32)
    if way == "photo":
        y, x = np.ogrid[: shape[0], : shape[1]]
        light = (rng.uniform(-0.4, 0.4) * x + rng.uniform(-0.4, 0.4) * y) / max(shape)
        paper = (paper * rng.uniform(0.55, 1) * (1 - light)).clip(60, 255).astype(np.float32)
    contrast = rng.uniform(0.3, 0.95)
    if way != "scan":
        blur = rng.uniform(0.3, min(1, 0.2 + writer.height / 40))
        strength = cv2.GaussianBlur(strength, (0, 0), blur)
    grain = rng.uniform(0, 0.12 if way == "photo" else 0.08) * contrast
    strength += grain * rng.standard_normal(shape, np.float32)
    if way == "black and white":
        usual = float(np.median(strength[ink > INK]))
        strength = (strength > rng.uniform(0.4, 0.7) * usual).astype(np.float32)
        paper[:], contrast = 255, 1
    pixels: Pixels = (paper * (1 - contrast * strength)).clip(0, 255).astype(np.uint8)
    if way == "photo" and rng.random() < 0.7:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        code = cv2.imencode(".jpg", pixels, quality)[1]
        pixels = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.uint8)
    return 255 - pixels if rng.random() < 0.08 else pixels
