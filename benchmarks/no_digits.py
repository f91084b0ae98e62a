"""Pictures that are not one digit, made from code: what nnpipe is to refuse.

Letters come from fonts, while the network was trained against letters drawn from strokes; and the
digits of `several` come from fonts and from the hands of other countries.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nnpipe.datasets import drawn

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"  # without I, O, l, o: digits to all
FONTS = [
    Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    for name in (
        "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono",
        "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmmi10", "cmss10", "cmtt10",
    )
]  # fmt: skip


def _sheet(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, int]:
    """Empty paper, dark or light, and the level of ink that goes with it."""
    paper, ink = rng.integers(190, 256), rng.integers(0, 90)
    if rng.random() < 0.3:
        paper, ink = ink, paper
    return Image.new("L", size, int(paper)), int(ink)


def _photographed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With uneven light and grain, for every second picture."""
    if rng.random() < 0.5:
        return image
    y, x = np.mgrid[: image.height, : image.width] / max(image.size)
    light = 1 - rng.uniform(0, 0.4) * (rng.random() * x + rng.random() * y)
    grain = rng.normal(0, rng.uniform(1, 5), light.shape)
    levels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), float) * light + grain
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def _font(rng: np.random.Generator, height: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(rng.choice(FONTS), int(height))


def _slanted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sheared and turned a little."""
    middle, (a, b) = image.width / 2, rng.normal(0, (0.06, 0.15))
    matrix = (1, b, -b * middle, a, 1, -a * middle)
    corner = image.getpixel((0, 0))
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=corner
    )


def letters(rng: np.random.Generator) -> Image.Image:
    """One letter, thin or bold, small or large."""
    side = int(rng.integers(40, 220))
    image, ink = _sheet(rng, (side, side))
    pen = int(rng.integers(0, 1 + side // 40))
    font, letter = _font(rng, side * rng.uniform(0.45, 0.8)), rng.choice(list(LETTERS))
    place = side / 2, side / 2
    ImageDraw.Draw(image).text(place, letter, ink, font, "mm", stroke_width=pen)
    return _photographed(_slanted(image, rng), rng)


def shapes(rng: np.random.Generator) -> Image.Image:
    """A triangle, square, star, arrow, plus, cross, tick, house, hash or zigzag, drawn as lines."""
    side = int(rng.integers(60, 220))
    image, ink = _sheet(rng, (side, side))
    star = [
        (0.5 + 0.5 * np.sin(4 * a), 0.5 - 0.5 * np.cos(4 * a)) for a in np.pi * np.arange(6) / 5
    ]
    kinds = [
        [[(0.5, 0), (1, 1), (0, 1), (0.5, 0)]],
        [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]],
        [star],
        [[(0, 0.5), (1, 0.5)], [(0.7, 0.2), (1, 0.5), (0.7, 0.8)]],
        [[(0.5, 0), (0.5, 1)], [(0, 0.5), (1, 0.5)]],
        [[(0, 0), (1, 1)], [(1, 0), (0, 1)]],
        [[(0, 0.6), (0.35, 1), (1, 0)]],
        [[(0, 1), (0, 0.4), (0.5, 0), (1, 0.4), (1, 1), (0, 1)]],
        [[(x, 0), (x, 1)] for x in (0.3, 0.7)] + [[(0, y), (1, y)] for y in (0.3, 0.7)],
        [[(0, 0), (0.25, 1), (0.5, 0), (0.75, 1), (1, 0)]],
    ]
    scale, pen = side * rng.uniform(0.4, 0.7), max(2, round(side * rng.uniform(0.02, 0.08)))
    for stroke in kinds[rng.integers(len(kinds))]:
        path = (np.array(stroke) - 0.5 + rng.normal(0, 0.03, (len(stroke), 2))) * scale + side / 2
        ImageDraw.Draw(image).line([tuple(point) for point in path], ink, pen, joint="curve")
    return _photographed(_slanted(image, rng), rng)


def several(rng: np.random.Generator) -> Image.Image:
    """Two to four digits in a row, apart by 15 to 50 % of their height."""
    height, count = int(rng.integers(30, 150)), int(rng.integers(2, 5))
    printed = rng.random() < 0.5
    font = _font(rng, height * 1.3)
    digits = []
    for digit in rng.integers(0, 10, count):
        if printed:
            mask = Image.new("L", (2 * height, 2 * height))
            ImageDraw.Draw(mask).text((height, height), str(digit), 255, font, "mm")
        else:
            pixels = drawn.draw(np.array([digit]), rng, hand=drawn.ABROAD)[0]
            mask = Image.fromarray(pixels).resize((height, height), Image.Resampling.BICUBIC)
        digits.append(mask.crop(mask.point(lambda level: 255 * (level > 60)).getbbox()))
    gaps = [round(height * rng.uniform(0.15, 0.5)) for _ in digits]
    size = sum(mask.width + gap for mask, gap in zip(digits, gaps, strict=True)), height
    image, ink = _sheet(rng, (size[0] + height, size[1] + height))
    left = height // 2
    for mask, gap in zip(digits, gaps, strict=True):
        image.paste(ink, (left, (image.height - mask.height) // 2), mask)
        left += mask.width + gap
    return _photographed(image, rng)


def pages(rng: np.random.Generator) -> Image.Image:
    """Some lines of words."""
    image, ink = _sheet(rng, (int(rng.integers(150, 400)), int(rng.integers(100, 400))))
    words = ["".join(rng.choice(list(LETTERS), rng.integers(2, 9))) for _ in range(60)]
    lines = [" ".join(words[at : at + 6]) for at in range(0, 60, 6)]
    font = _font(rng, rng.uniform(14, 40))
    ImageDraw.Draw(image).multiline_text((10, 10), "\n".join(lines), ink, font)
    return _photographed(image, rng)


def blanks(rng: np.random.Generator) -> Image.Image:
    """Paper with light and grain, sometimes with a speck, or as JPEG leaves it."""
    size = tuple(int(side) for side in rng.integers(28, 500, 2))
    image, ink = _sheet(rng, size)
    if rng.random() < 0.3:
        place = [int(rng.integers(0, side)) for side in size]
        image.putpixel(tuple(place), ink)
    image = _photographed(image, rng)
    if rng.random() < 0.5:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(rng.integers(30, 95)))
        return Image.open(stream)
    return image


def noise(rng: np.random.Generator) -> Image.Image:
    """Noise of any kind and grain, stripes and waves."""
    height, width = rng.integers(28, 300, 2)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x * rng.uniform(0.05, 1) + y * rng.uniform(0.05, 1))
    kinds = [
        rng.normal(128, rng.uniform(10, 60), (height, width)),
        255 * (rng.random((height, width)) < rng.uniform(0.05, 0.95)),
        rng.uniform(0, 255, (height, width)),
        128 + 100 * waves,
        255 * (waves > rng.uniform(-0.7, 0.7)),
    ]
    levels = kinds[rng.integers(len(kinds))]
    image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 8))), float)
        stretched = (blurred - blurred.min()) * (255 / max(np.ptp(blurred), 1))
        return Image.fromarray(stretched.astype(np.uint8))
    return image


KINDS = {make.__name__: make for make in (blanks, noise, letters, shapes, several, pages)}
