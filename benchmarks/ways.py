"""Ways to present one digit as a picture that people have: what the answer must not depend on.

`WAYS` maps the name of a way to a function of a digit like MNIST's, uint8 (28, 28), white ink on
black, and of a random generator. `EMPTY` maps names to functions of a random generator that make
the same kinds of pictures without a digit. `pair` writes two digits side by side. All return a
Pillow image, and the same one for the same digit and the same state of the generator.

A *layer* is ink: float (h, w), from 0 for none to 1 for full. Sizes are in pixels.
"""

import io
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Layer = np.ndarray
Segment = tuple[float, float, float, float]  # x and y of one end, then of the other
Colour = float | tuple[float, float, float]
Way = Callable[[np.ndarray, np.random.Generator], Image.Image]

FIELD, INK = 28, 20  # pixels of MNIST's square, and of the digit in it
NOTHING = np.zeros((FIELD, FIELD), np.uint8)
FAR = 9999.0  # beyond every picture

BLACK, WHITE = 25.0, 255.0
BLUE, RED, GREEN = (30, 50, 140), (210, 60, 50), (40, 130, 70)
CREAM, BUFF, ROSE = (244, 236, 205), (214, 196, 150), (250, 214, 214)


# Layers: the digit, and lines


def _resized(layer: Layer, width: float, height: float) -> Layer:
    size = max(1, round(width)), max(1, round(height))
    image = Image.fromarray(layer.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, float).clip(0, 1)


def field(digit: np.ndarray, side: float, edge: float = 1.5) -> Layer:
    """The digit's whole square as a pen writes it: its strokes fade over ``edge`` pixels."""
    layer = _resized(digit / 255, side, side)
    return ((layer - 0.5) * max(1, side / FIELD / edge) + 0.5).clip(0, 1)


def hand(digit: np.ndarray, rng: np.random.Generator) -> Layer:
    """The digit's whole square, as large as in most scans."""
    return field(digit, rng.integers(80, 131))


def cut(layer: Layer, margin: int = 0) -> Layer:
    """The rectangle of the ink, and so much beyond it."""
    rows, columns = (np.flatnonzero((layer >= 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        return layer
    inner = layer[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(inner, margin)


def put(layer: Layer, shape: tuple[int, int], middle: tuple[float, float] = (0.5, 0.5)) -> Layer:
    """The layer on a larger one, its middle at this share of the height and the width."""
    larger = np.zeros(shape)
    top, left = (
        int(np.clip(round(at * whole - part / 2), 0, max(0, whole - part)))
        for at, whole, part in zip(middle, shape, layer.shape, strict=True)
    )
    part = larger[top : top + layer.shape[0], left : left + layer.shape[1]]
    part[:] = layer[: part.shape[0], : part.shape[1]]
    return larger


def turned(layer: Layer, degrees: float) -> Layer:
    """Turned around its middle."""
    image = Image.fromarray(layer.astype(np.float32))
    return np.asarray(image.rotate(degrees, Image.Resampling.BICUBIC), float).clip(0, 1)


def skeleton(layer: Layer) -> Layer:
    """The strokes, one pixel wide (Zhang & Suen 1984, "A fast parallel algorithm for thinning")."""
    ink = np.pad(layer >= 0.5, 1)
    changed = True
    while changed:
        changed = False
        for turn in (0, 2):
            # The eight neighbours, clockwise from the one above.
            steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
            around = np.stack([np.roll(ink, (-y, -x), (0, 1)) for y, x in steps])
            count = around.sum(0)
            starts = (~around & np.roll(around, -1, 0)).sum(0)
            a, b, c, d = (around[(side + turn) % 8] for side in (0, 2, 4, 6))
            gone = ink & (count >= 2) & (count <= 6) & (starts == 1) & ~(b & c & (a | d))
            ink &= ~gone
            changed |= bool(gone.any())
    return ink[1:-1, 1:-1].astype(float)


def pen(digit: np.ndarray, side: int, width: float) -> Layer:
    """The digit's square, written with a pen that is so wide."""
    line = Image.fromarray((skeleton(field(digit, 3 * side)) * 255).astype(np.uint8))
    blurred_line = line.filter(ImageFilter.GaussianBlur(1.5 * width))
    # At one standard deviation from a line of one pixel: 255 / sqrt(2 π e) / (1.5 width).
    grown = blurred_line.point(partial(_above, 255 / 6.2 / width))
    return _resized(np.asarray(grown) / 255, side, side)


def _above(limit: float, level: int) -> int:
    return 255 * (level > limit)


def lines(shape: tuple[int, int], segments: Iterable[Segment], width: float = 2) -> Layer:
    """Straight lines of this width, in pixels."""
    image = Image.new("L", (4 * shape[1], 4 * shape[0]))
    for segment in segments:
        start, end = np.array(segment[:2]), np.array(segment[2:])
        along = (end - start) * (width / 2 / max(np.hypot(*(end - start)), 1e-9))
        # A corner of a box is closed, because each line is longer by half its width.
        ends = (4 * np.array([start - along, end + along])).clip(-4 * FAR, 4 * FAR)
        ImageDraw.Draw(image).line([tuple(point) for point in ends], 255, round(4 * width))
    return np.asarray(image.reduce(4)) / 255


def box(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """The left, the bottom, the right and the top line."""
    return [
        (left, top, left, bottom),
        (left, bottom, right, bottom),
        (right, bottom, right, top),
        (right, top, left, top),
    ]


def grid(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """The lines of a table around one of its cells."""
    upright = [(x, -FAR, x, FAR) for x in (left, right)]
    return [*upright, *((-FAR, y, FAR, y) for y in (top, bottom))]


def double(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """A box in a box."""
    return [*box(left, top, right, bottom), *box(left + 4, top + 4, right - 4, bottom - 4)]


def row(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """A box, and what is seen of the boxes at its sides."""
    away = right - left + 5
    return [
        segment
        for shift in (-away, 0, away)
        for segment in box(left + shift, top, right + shift, bottom)
    ]


def comb(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """A line below, and short ones up from both of its ends."""
    ticks = bottom - 0.3 * (bottom - top)
    return [
        (left, ticks, left, bottom), (-FAR, bottom, FAR, bottom), (right, bottom, right, ticks)
    ]  # fmt: skip


def ticks(left: float, top: float, right: float, bottom: float) -> list[Segment]:
    """The short lines of a comb alone."""
    return comb(left, top, right, bottom)[::2]


def sides(*which: int) -> Callable[..., list[Segment]]:
    """Some sides of a box: 0 is the left one, 1 the bottom, 2 the right, 3 the top."""
    return lambda *corners: [box(*corners)[side] for side in which]


def dashed(length: float, gap: float) -> Callable[..., list[Segment]]:
    """A box of dashes or dots."""

    def segments(*corners: float) -> list[Segment]:
        pieces = []
        for segment in box(*corners):
            start, end = np.array(segment[:2]), np.array(segment[2:])
            whole = np.hypot(*(end - start))
            for at in np.arange(0, whole, length + gap):
                stop = min(at + length, whole)
                pieces.append((*(start + (end - start) * (at / whole)),
                               *(start + (end - start) * (stop / whole))))  # fmt: skip
        return pieces

    return segments


# Pictures


def paint(paper: Colour | np.ndarray, *inks: tuple[Layer, Colour]) -> Image.Image:
    """Layers on paper, each in its colour."""
    levels = np.asarray(paper, float)
    levels = levels[..., None] if levels.ndim == 2 else levels
    for layer, colour in inks:
        levels = levels + (np.asarray(colour, float) - levels) * layer[..., None]
    levels = levels.clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def dark(*layers: Layer) -> Image.Image:
    """Dark ink on white paper."""
    return paint(WHITE, *((layer, BLACK) for layer in layers))


def _changed(image: Image.Image, change: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """The image with its levels changed, float (h, w) or (h, w, 3)."""
    levels = change(np.asarray(image, float))
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def shaded(image: Image.Image, light: np.ndarray) -> Image.Image:
    """In this light, from 0 to 1."""
    return _changed(image, lambda levels: (levels.T * light.T).T)


def noisy(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """With the grain of a sensor."""
    grain = rng.normal(0, strength, (image.height, image.width))
    return _changed(image, lambda levels: (levels.T + grain.T).T)


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """As JPEG leaves it."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def bilevel(image: Image.Image, limit: int = 128) -> Image.Image:
    """Of black and white pixels."""
    return image.convert("L").point(partial(_above, limit)).convert("1")


def photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """In uneven light, a little out of focus, with grain."""
    y, x = _places((image.height, image.width))
    light = 0.85 - rng.uniform(0.15, 0.35) * (x if rng.random() < 0.5 else y)
    return noisy(blurred(shaded(image, light), max(image.size) / 300), rng, 4)


def _places(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The height and the place across of each pixel, from 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return y / shape[0], x / shape[1]


def clouds(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Layer:
    """A layer that varies from 0 to 1 over about ``size`` pixels."""
    coarse = rng.random([max(2, round(side / size)) for side in shape])
    return _resized(coarse, shape[1], shape[0])


def specks(shape: tuple[int, int], rng: np.random.Generator, count: int, size: float = 1) -> Layer:
    """Dust: dots of one to a few pixels."""
    image = Image.new("L", shape[::-1])
    for y, x, radius in zip(
        rng.uniform(0, shape[0], count),
        rng.uniform(0, shape[1], count),
        rng.uniform(0, size, count),
        strict=True,
    ):
        ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), 220)
    return np.asarray(image) / 255


def ruled(shape: tuple[int, int], rng: np.random.Generator, *, squares: bool = False) -> Layer:
    """The lines of ruled or squared paper."""
    step = shape[0] * (rng.uniform(0.2, 0.3) if squares else rng.uniform(0.55, 0.75))
    first = rng.uniform(0.2, 1, 2) * step
    level = [(-FAR, y, FAR, y) for y in np.arange(first[0], shape[0], step)]
    upright = [(x, -FAR, x, FAR) for x in np.arange(first[1], shape[1], step) if squares]
    return lines(shape, level + upright, 1.2)


def waves(shape: tuple[int, int], rng: np.random.Generator, families: int) -> Layer:
    """Fine wavy lines, as on cheques; two families cross."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    layer = np.zeros(shape)
    for family in range(families):
        along, across = (x, y) if family == 0 else (y, x)
        lift = rng.uniform(3, 6) * np.sin(along / rng.uniform(8, 14) + rng.uniform(0, 6))
        away = np.abs((across + lift) % 7 - 3.5)
        layer = np.maximum(layer, (1.2 - away).clip(0, 1))
    return layer


def hair(shape: tuple[int, int], rng: np.random.Generator) -> Layer:
    """One curved hair."""
    t = np.linspace(0, 1, 20)
    x, y, bend = *rng.uniform(0.2, 0.7, 2), rng.uniform(0.15, 0.3)
    angle = rng.uniform(0, 6.3)
    course = bend * (np.exp(1j * angle) * t + 0.4j * np.exp(1j * angle) * np.sin(3 * t))
    points = np.stack([(x + course.real) * shape[1], (y + course.imag) * shape[0]], 1)
    return 0.6 * lines(shape, [(*a, *b) for a, b in pairwise(points)], 0.8)


# Forms


def cell(
    digit: np.ndarray,
    rng: np.random.Generator,
    frame: Callable[..., list[Segment]] = box,
    *,
    width: float = 2,
    around: int = 6,
    fill: float = 0.6,
    touching: str = "",
) -> tuple[Layer, Layer]:
    """The digit in a cell of a form, and the lines of the cell.

    Args:
        digit: the digit.
        rng: decides on sizes and places.
        frame: the lines, for the left, top, right and bottom of the cell.
        width: of the lines.
        around: pixels of the picture beyond the lines.
        fill: the height of the digit, as a share of the cell's.
        touching: sides, of "lbrt", of which the digit touches one.
    """
    tall = int(rng.integers(64, 111))
    wide = round(tall * rng.uniform(0.8, 1))
    shape = tall + 2 * around, wide + 2 * around
    ink = cut(field(digit, tall * fill * FIELD / INK))
    middle = 0.5 + rng.uniform(-0.06, 0.06, 2)
    if touching:
        side, line = rng.choice(list(touching)), around + width / 2 - 1
        axis, low = int(side in "lr"), side in "lt"
        edge = line + ink.shape[axis] / 2
        middle[axis] = edge / shape[axis] if low else 1 - edge / shape[axis]
    corners = around, around, around + wide, around + tall
    return put(ink, shape, tuple(middle)), lines(shape, frame(*corners), width)


def _form(frame: Callable[..., list[Segment]] = box, *, faint: float = 1, **options: object) -> Way:
    """In a cell with these lines, of the darkness ``faint``."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        ink, drawn = cell(digit, rng, frame, **options)
        return dark(ink, faint * drawn)

    return way


def _tilted(frame: Callable[..., list[Segment]], degrees: float) -> Way:
    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        angle = rng.choice([-1, 1]) * rng.uniform(0.65, 1) * degrees
        return dark(*(turned(layer, angle) for layer in cell(digit, rng, frame, around=10)))

    return way


def _coloured(frame: Callable[..., list[Segment]] = box, **options: object) -> Way:
    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        ink, drawn = cell(digit, rng, frame, **options)
        printed = [RED, GREEN, (235, 140, 40), (90, 140, 220)][rng.integers(4)]
        return paint(
            (252, 252, 250), (drawn, printed), (ink, BLACK if rng.random() < 0.5 else BLUE)
        )

    return way


def _row(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A cell of a table, with pieces of the digits in the cells beside it."""
    ink, drawn = cell(digit, rng, grid, around=12)
    beside = cut(field(digit[::-1], 0.9 * len(ink)))
    if digit.any():
        ink[-len(beside) - 20 : -20, :8] = beside[:, -8:]
        ink[-len(beside) - 18 : -18, -7:] = beside[:, :7]
    return dark(ink, drawn)


def _specked_box(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    ink, drawn = cell(digit, rng)
    return noisy(dark(ink, drawn, specks(ink.shape, rng, 12)), rng, 4)


def _photographed_cell(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    layers = cell(digit, rng, grid, around=9, width=1.6)
    angle = rng.uniform(-2, 2)
    ink, drawn = (turned(layer, angle) for layer in layers)
    return photographed(paint((225, 220, 205), (0.8 * drawn, 60), (ink, BLUE)), rng)


def _underlined(depth: float) -> Way:
    """Underlined, at this height above the digit's foot, as a share of its height."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        ink = cut(field(digit, rng.integers(70, 111)))
        place = (15 + ink.shape[0] * (1 - depth)) + rng.uniform(-1, 1)
        ink = put(ink, (ink.shape[0] + 30, ink.shape[1] + 40))
        return dark(ink, lines(ink.shape, [(8, place, ink.shape[1] - 8, place + 1)], 2.5))

    return way


# Cuts


def _tight(margin: int = 0, *, edge: float = 0) -> Way:
    """Cut so closely, as a scan has it: black and white, or with edges that fade."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        layer = field(digit, rng.integers(40, 81) * FIELD / INK, edge or 1)
        return dark(cut(layer if edge else (layer >= 0.5).astype(float), margin))

    return way


def _between(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Cut out of a number: pieces of its neighbours remain at both sides."""
    ink, beside = (cut(field(d, rng.integers(70, 90))) for d in (digit, digit[::-1, ::-1]))
    piece = max(3, round(beside.shape[1] * 0.2))
    gap = rng.integers(4, 8)
    number = put(ink, (max(len(ink), len(beside)), ink.shape[1] + 2 * (piece + gap)))
    number[: len(beside), :piece] = beside[:, -piece:]
    number[-len(beside) :, -piece:] = beside[:, :piece]
    return dark(number)


def _stretched(side: int, *, black: bool = False) -> Way:
    """Cut to the ink and stretched to a square. A narrow digit keeps paper at its sides."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        layer = cut(field(digit, 84))
        layer = put(layer, (len(layer), max(layer.shape[1], round(0.45 * len(layer)))))
        image = dark(_resized(layer, side, side))
        return bilevel(image, 150) if black else image

    return way


def _proportions(wide: float, tall: float) -> Way:
    return lambda digit, rng: dark(_resized(field(digit, 100), 100 * wide, 100 * tall))


def _sized(side: int) -> Way:
    return lambda digit, rng: dark(field(digit, side))


# Paper, ink, light, files


def _plain_ink(way: Callable[[Layer, np.random.Generator], Image.Image]) -> Way:
    """What is done to the digit as most scans have it."""
    return lambda digit, rng: way(hand(digit, rng), rng)


def _scanned(way: Callable[[Image.Image, np.random.Generator], Image.Image]) -> Way:
    """What is done to a scan of the digit: grey paper, dark ink."""
    return lambda digit, rng: way(paint(238.0, (hand(digit, rng), 45.0)), rng)


def _page(shape: tuple[int, int], tall: float) -> Way:
    """A digit of this height anywhere on a page."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        ink = cut(field(digit, tall * FIELD / INK))
        return dark(put(ink, shape, tuple(rng.uniform(0.15, 0.85, 2))))

    return way


def _chalk(ink: Layer, rng: np.random.Generator) -> Image.Image:
    board = np.array((38, 62, 52)) + 30 * clouds(ink.shape, rng, 30)[..., None]
    rough = 0.45 + 0.55 * (clouds(ink.shape, rng, 1.5) > 0.4)
    return blurred(paint(board, (ink * rough, (228, 228, 220))), 0.6)


def _pencil(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    ink = pen(digit, 100, 3)
    return noisy(paint(240.0, (ink * (0.3 + 0.35 * clouds(ink.shape, rng, 1.5)), 60.0)), rng, 3)


def _salted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    grain = rng.random((image.height, image.width))
    return _changed(image, lambda levels: np.where(grain < 0.02, 255 * (grain < 0.01), levels))


def _half_shadow(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    y, x = _places((image.height, image.width))
    turn, slope = rng.choice([-1, 1]), rng.uniform(-0.6, 0.6)
    away = turn * (x - rng.uniform(0.4, 0.6) + slope * (y - 0.5))
    return shaded(image, 0.6 + 0.4 * (away * 25).clip(0, 1))


def _gradient(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    y, x = _places((image.height, image.width))
    turn = rng.uniform(0, 2 * np.pi)
    return shaded(image, 0.65 + 0.45 * ((x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)))


def _vignette(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    y, x = _places((image.height, image.width))
    return shaded(image, 1 - 1.1 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))


def _lid(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A strip of a scanner's dark lid at one or two sides."""
    at, strips = np.asarray(image).copy(), rng.permutation(4)[: rng.integers(1, 3)]
    for side in strips:
        np.rot90(at, side)[: rng.integers(4, 9)] = 30
    return blurred(noisy(Image.fromarray(at), rng, 3), 0.5)


def _broken(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A scan of thin strokes, whose threshold left gaps."""
    ink = pen(digit, 100, 4)
    return bilevel(dark(ink * (clouds(ink.shape, rng, 6) > 0.25)))


def _bleeding(ink: Layer, rng: np.random.Generator) -> Image.Image:
    """The back of the sheet shows through."""
    back = np.roll(ink[:, ::-1], rng.integers(-15, 16, 2), (0, 1))
    return noisy(blurred(paint(240.0, (0.2 * back, 60.0), (ink, 40.0)), 0.8), rng, 3)


def _faxed(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """At 100 dots an inch, black and white."""
    ink = put(field(digit, rng.integers(34, 43), 2), (48, 44), tuple(rng.uniform(0.4, 0.6, 2)))
    return bilevel(noisy(dark(ink, specks(ink.shape, rng, 3, 0.4)), rng, 35))


def _scan_200(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    ink = put(field(digit, rng.integers(52, 61)), (84, 62), tuple(rng.uniform(0.4, 0.6, 2)))
    return noisy(blurred(paint(236.0, (ink, 60.0)), 0.7), rng, 6)


def _photo(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Of a sheet, 480 × 640."""
    ink = put(field(digit, rng.integers(220, 361), 3), (640, 480), tuple(rng.uniform(0.4, 0.6, 2)))
    paper = np.array((225, 222, 210)) - 10 * clouds(ink.shape, rng, 4)[..., None]
    return photographed(paint(paper, (ink, BLUE if rng.random() < 0.5 else (40, 40, 45))), rng)


def _canvas(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Drawn on 28 × 28 with a pencil of one pixel."""
    return dark(skeleton(field(digit, FIELD)))


def _transparent(level: int) -> Way:
    """Ink of this level on nothing."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        alpha = (255 * hand(digit, rng)).round().astype(np.uint8)
        return Image.fromarray(np.dstack([*[np.full_like(alpha, level)] * 3, alpha]))

    return way


def _deep(ink: Layer, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray((65535 * (1 - 0.9 * ink)).round().astype(np.uint16))


def _sheet(
    papers: Callable[[tuple[int, int], np.random.Generator], Layer], faint: float, colour: Colour
) -> Way:
    """On paper with a print of this colour."""

    def way(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
        ink = hand(digit, rng)
        return paint((250, 250, 247), (faint * papers(ink.shape, rng), colour), (ink, BLUE))

    return way


WAYS: dict[str, Way] = {
    "plain": lambda digit, rng: Image.fromarray(digit),
    # Sizes and places
    "black on white, 28 pixels": lambda digit, rng: Image.fromarray(255 - digit),
    "black on white, 100 pixels": _sized(100),
    "white on black, 100 pixels": lambda digit, rng: paint(0.0, (field(digit, 100), WHITE)),
    "canvas of 400 pixels": _sized(400),
    "small on a large page": _page((1000, 1500), 24),
    "12 pixels": _sized(12),
    "16 pixels": _sized(16),
    "off-centre": _page((170, 200), 60),
    "tilted by 10°": lambda digit, rng: dark(turned(hand(digit, rng), rng.choice([-10, 10]))),
    "wider by 1.3": _proportions(1.3, 1),
    "taller by 1.3": _proportions(1, 1.3),
    # Cuts
    "cut to the ink, black and white": _tight(),
    "cut to the ink, grey edges": _tight(edge=3),
    "cut to 1 pixel around the ink": _tight(1),
    "cut to 2 pixels around the ink": _tight(2, edge=2),
    "cut to 3 pixels around the ink": _tight(3, edge=2),
    "cut and stretched to 16 × 16": _stretched(16),
    "cut and stretched to 16 × 16, black and white": _stretched(16, black=True),
    "cut and stretched to 20 × 20": _stretched(20),
    "cut with pieces of both neighbours": _between,
    # Forms
    "in a box": _form(),
    "in a box, large": _form(fill=0.85),
    "in a box, small": _form(fill=0.4),
    "in a box, touching one side": _form(touching="lbrt"),
    "in a box with a thick frame": _form(width=5),
    "in a box with a thin faint frame": _form(width=1, faint=0.35),
    "in a dashed box": _form(dashed(8, 6)),
    "in a dotted box": _form(dashed(0.1, 5)),
    "in a box with a double frame": _form(double, width=1.5),
    "in a tilted box": _tilted(box, 3),
    "in a tilted cell of a table": _tilted(grid, 3),
    "in a coloured box": _coloured(),
    "in a coloured box, touching one side": _coloured(touching="lbrt"),
    "in a box at the picture's border": _form(around=1),
    "in a box at the picture's border, touching": _form(around=1, touching="lr"),
    "in a specked box": _specked_box,
    "in three sides of a box": lambda digit, rng: _form(
        sides(*sorted(rng.permutation(4)[:3].tolist()))
    )(digit, rng),
    "in a corner of a box": lambda digit, rng: _form(
        sides(side := int(rng.integers(4)), (side + 1) % 4)
    )(digit, rng),
    "beside the left line of a box": _form(sides(0)),
    "above the bottom line of a box": _form(sides(1)),
    "in one of a row of boxes": _form(row, around=12),
    "in a cell of a table": _form(grid, around=14),
    "in a cell of a table, touching a line": _form(grid, around=10, touching="lbrt"),
    "in a cell with pieces of neighbours": _row,
    "in a cell, photographed": _photographed_cell,
    "in a comb": _form(comb),
    "in a comb, touching": _form(comb, touching="b"),
    "between the ticks of a comb": _form(ticks),
    "underlined": _underlined(-0.1),
    "underlined through the foot": _underlined(0.05),
    # Paper
    "on ruled paper": _sheet(ruled, 0.45, (90, 130, 200)),
    "on squared paper": _sheet(partial(ruled, squares=True), 0.4, (90, 130, 200)),
    "on fine wavy lines": _sheet(partial(waves, families=1), 0.25, (120, 120, 120)),
    "on the pattern of a cheque": _sheet(partial(waves, families=2), 0.35, (110, 170, 130)),
    "on tinted paper": lambda digit, rng: paint(
        [CREAM, BUFF, ROSE][rng.integers(3)], (hand(digit, rng), BLACK)
    ),
    "on a sheet whose back shows through": _plain_ink(_bleeding),
    "on a blackboard": _plain_ink(_chalk),
    # Ink
    "in coloured ink": lambda digit, rng: paint(
        WHITE + np.zeros(3), (hand(digit, rng), [BLUE, RED, GREEN][rng.integers(3)])
    ),
    "in pencil": _pencil,
    "in a thin pen": lambda digit, rng: dark(pen(digit, 100, 2)),
    "in a thick marker": lambda digit, rng: dark(pen(digit, 100, 9)),
    "in a pencil of one pixel on 28": _canvas,
    # Scans and photos
    "with noise": _scanned(lambda image, rng: noisy(image, rng, 20)),
    "with salt and pepper": _scanned(_salted),
    "with dust": _plain_ink(lambda ink, rng: dark(ink, specks(ink.shape, rng, 15, 1.6))),
    "with a gradient of light": _scanned(_gradient),
    "with half in shadow": _scanned(_half_shadow),
    "with a vignette": _scanned(_vignette),
    "blurred": _scanned(lambda image, rng: blurred(image, 3)),
    "with low contrast": lambda digit, rng: noisy(paint(190.0, (hand(digit, rng), 150.0)), rng, 2),
    "with a dark strip of the scanner's lid": _scanned(_lid),
    "scanned at 200 dpi": _scan_200,
    "scanned with gaps": _broken,
    "faxed": _faxed,
    "photo of a sheet": _photo,
    # Files
    "JPEG of quality 30": _scanned(lambda image, rng: jpeg(image, 30)),
    "JPEG of quality 10": _scanned(lambda image, rng: jpeg(image, 10)),
    "1 bit": _plain_ink(lambda ink, rng: bilevel(dark(ink))),
    "16 bits": _plain_ink(_deep),
    "black ink on nothing": _transparent(0),
    "white ink on nothing": _transparent(255),
    "a palette": lambda digit, rng: paint(CREAM, (hand(digit, rng), BLUE)).quantize(16),
    "CMYK": lambda digit, rng: paint(CREAM, (hand(digit, rng), BLUE)).convert("CMYK"),
}
"""The ways, by name; "plain" is the digit as it is."""


def _without_digit(way: Way) -> Callable[[np.random.Generator], Image.Image]:
    return lambda rng: way(NOTHING, rng)


def _scrap(rng: np.random.Generator) -> tuple[int, int]:
    """The size of a piece of paper."""
    high, wide = rng.integers(60, 200, 2).tolist()
    return high, wide


def _blank(rng: np.random.Generator) -> Image.Image:
    paper = np.array(CREAM) + 8 * clouds(_scrap(rng), rng, 20)[..., None]
    return noisy(paint(paper), rng, rng.uniform(0, 5))


def _dusty(rng: np.random.Generator) -> Image.Image:
    shape = _scrap(rng)
    return noisy(dark(hair(shape, rng), specks(shape, rng, rng.integers(0, 8))), rng, 2)


EMPTY: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "blank paper": _blank,
    "paper with a hair and dust": _dusty,
    **{
        f"nothing {name}": _without_digit(WAYS[name])
        for name in (
            "in a box", "in a box with a thick frame", "in a box with a thin faint frame",
            "in a dashed box", "in a dotted box", "in a box with a double frame", "in a tilted box",
            "in a coloured box", "in a box at the picture's border", "in a specked box",
            "in three sides of a box", "in a corner of a box", "in one of a row of boxes",
            "in a cell of a table",
            "in a tilted cell of a table", "in a cell, photographed", "in a comb",
            "between the ticks of a comb", "beside the left line of a box",
            "above the bottom line of a box", "on ruled paper", "on squared paper",
            "on the pattern of a cheque", "with salt and pepper", "with half in shadow",
            "with a dark strip of the scanner's lid",
        )
    },
}  # fmt: skip
"""Pictures without a digit, by name."""


def pair(left: np.ndarray, right: np.ndarray, gap: float, rng: np.random.Generator) -> Image.Image:
    """Two digits side by side.

    Args:
        left: a digit, uint8 (28, 28).
        right: the same.
        gap: the shortest way from the ink of one to that of the other, in pixels of MNIST's scale;
            at 0 they touch.
        rng: decides on the size, and how much higher one of them stands.
    """
    side = int(rng.integers(40, 141))
    inks = [field(digit, side) for digit in (left, right)]
    lift = round(rng.uniform(-1.5, 1.5) * side / FIELD)
    inks[1] = np.roll(inks[1], lift, 0)
    first, second = ([np.flatnonzero(line >= 0.5) for line in ink] for ink in inks)
    away = gap * side / FIELD
    shift = 0  # of the second square against the first
    for y, columns in enumerate(first):
        for z in range(max(0, y - int(away)), min(side, y + int(away) + 1)):
            if len(columns) and len(second[z]):
                beside = np.sqrt(away**2 - (z - y) ** 2) + (gap > 0)
                shift = max(shift, round(columns[-1] - second[z][0] + beside))
    whole = np.zeros((side, side + shift))
    whole[:, :side] = inks[0]
    whole[:, shift:] = np.maximum(whole[:, shift:], inks[1])
    return dark(whole)
