"""A form drawn by code, empty or filled in, as a scanner delivers it."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nnpipe.datasets import drawn

SIDE = 850, 1100
DPI = 100
NAMES = ("votes_a", "votes_b", "blank", "total")
CELL = 56
"""Pixels of a box for one digit."""

LEFT, TOP, STEP = 480, 260, 130


def place(number):
    """The left and upper corner of a field, in pixels."""
    return LEFT, TOP + number * STEP


def form(numbers=(), *, seed=0):
    """A page with four fields of three boxes, and the numbers of the first ones."""
    rng = np.random.default_rng(seed)
    page = Image.new("L", SIDE, 250)
    pen = ImageDraw.Draw(page)
    pen.text((120, 70), "Tally sheet of polling station", font=ImageFont.load_default(34), fill=20)
    pen.text((120, 130), "Write one digit into each box.", font=ImageFont.load_default(20), fill=20)
    pen.rectangle((60, 40, 790, 1050), outline=20, width=3)
    for row, name in enumerate(NAMES):
        left, top = place(row)
        label = f"{row + 1}. Number of {name.replace('_', ' ')}"
        pen.text((110, top + 14), label, font=ImageFont.load_default(26), fill=20)
        for column in range(3):
            x = left + column * CELL
            pen.rectangle((x, top, x + CELL, top + CELL), outline=30, width=2)
    for row, text in enumerate(numbers):
        left, top = place(row)
        pictures = drawn.draw(np.array([int(sign) for sign in text]), rng)
        for column, digit in enumerate(pictures):
            ink = Image.fromarray(digit).resize((46, 46), Image.Resampling.BICUBIC)
            at = left + column * CELL + 5, top + 5
            page.paste(Image.new("L", ink.size, 40), at, ink)
    return page


def turned(page, degrees):
    """The page as it lies on a scanner's glass, a little turned and noisy."""
    rng = np.random.default_rng(round(degrees) % 360)
    levels = np.asarray(page.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=235))
    noise = rng.normal(0, 4, levels.shape)
    return Image.fromarray((levels + noise).clip(0, 255).astype(np.uint8))


def toml(reference, *, checks=True):
    """The text of the form."""
    lines = [f'reference = "{reference}"', 'unit = "%"']
    for number, name in enumerate(NAMES):
        left, top = place(number)
        box = (left / SIDE[0], top / SIDE[1], 3 * CELL / SIDE[0], CELL / SIDE[1])
        shares = ", ".join(f"{100 * share:.3f}" for share in box)
        lines += ["[[fields]]", f'name = "{name}"', f"box = [{shares}]", "digits = 3"]
    if checks:
        lines += ["[[checks]]", 'equal = ["votes_a + votes_b + blank", "total"]']
    return "\n".join(lines) + "\n"
