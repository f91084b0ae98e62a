"""How a picture was understood, drawn: the ways that were weighed, and the one that was chosen."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from nnpipe.classifier import Judgement
from nnpipe.preprocess import Grey, Picture, Pixels, Prepared, prepare

TILE, MARGIN, CAPTION = 240, 10, 32
"""Pixels: the side of each square, the space around it, and the height of the text below it."""

PAPER, CHOSEN = 235, 160
"""Grey levels: of the background, and behind the chosen way."""


class Stages(NamedTuple):
    """What a picture went through."""

    prepared: Prepared
    pictures: list[Image.Image]  # its brightness, then the ink of each candidate


def collect_stages(picture: Picture) -> Stages:
    """Prepare a picture, and keep its brightness and the ink of each way to understand it.

    Raises:
        PictureError: the picture cannot be read.
    """
    pictures: list[Image.Image] = []

    def add(name: str, levels: Grey | Pixels) -> None:
        image = Image.fromarray(np.rint(levels).astype(np.uint8))
        scale = TILE / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        pictures.append(image.resize(size, how))

    return Stages(prepare(picture, add), pictures)


def draw_stages(stages: Stages, judgement: Judgement) -> bytes:
    """Draw a picture and a row for each way: its ink, and what the network sees, as a PNG."""
    candidates = stages.prepared.candidates
    step, row = TILE + MARGIN, TILE + CAPTION + MARGIN
    sheet = Image.new("L", (3 * step + MARGIN, len(candidates) * row + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    brightness, *inks = stages.pictures

    def place(image: Image.Image, *, column: int, line: int) -> None:
        sheet.paste(image, (MARGIN + column * step, MARGIN + line * row))

    place(brightness, column=0, line=0)
    draw.text((MARGIN, MARGIN + TILE + 4), "the picture", 0)
    for line, candidate in enumerate(candidates):
        top = line * row
        if line == judgement.chosen and len(candidates) > 1:
            draw.rectangle((step + 2, top + 3, 3 * step + 6, top + row + 1), CHOSEN)
        if inks:
            place(inks[line], column=1, line=line)
        seen = Image.fromarray(candidate.pixels).resize((TILE, TILE), 0)
        place(seen, column=2, line=line)
        shares = judgement.probabilities[line]
        best = f"{shares.argmax()}  ({shares.max():.1%})"
        odds = f"1/{candidate.odds:g} as likely" if candidate.odds > 1 else ""
        verdict = "chosen: " if line == judgement.chosen else ""
        texts = (
            f"{candidate.name}\n{candidate.refusal or odds}",
            f"{verdict}the network reads {best}",
        )
        for column, text in enumerate(texts, start=1):
            draw.text((MARGIN + column * step, top + MARGIN + TILE + 2), text, 0)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()
