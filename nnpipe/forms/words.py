"""The words of a form, and whether a page shows the same ones at the same places.

Other forms have lines at the same places, but other words.
"""

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.forms.geometry import Array
from nnpipe.forms.strokes import Image, blurred

DARK = 0.3
"""Strength of a letter's strokes."""

LINE = 31
"""Length of a line, in pixels; letters have no strokes so long."""

HEIGHT, WIDTH = (5, 40), (5, 60)
"""Least and largest height and width of a word, in pixels; longer ones are parts of a text."""

SPACE = 9
"""Space between letters of a word, in pixels."""

BORDER = 4
"""Pixels around a field that its frame may take."""

NONE = np.zeros((0, 4))
"""No boxes."""

FAR = 4
"""Pixels by which a word may be off its place."""

SOFT, STROKES = 0.8, 9
"""Blur at which words are compared, and width of the row of pixels whose mean is taken away, in
pixels: all texts of one height have the same rows."""

BESIDE = 0.2
"""How far a word beside a field is, compared with one above or below, at the same distance."""

OTHER_ROW = 10.0
"""Distance that is added for a word that is not in the field's row, in pixels."""

MOST = 2000
"""Most words of a form."""

LOW, FILLED = 0.8, 0.25
"""Height of writing in a field, as a share of the field's, and the share of fields with writing of
a form that is filled."""

CLOSE, SAME, NEAREST = 25.0, 8.0, 3
"""Distance of the words of a field, how much farther than the nearest one they may be, in pixels,
and how many there are at most."""


def words_of(strength: Image, *, fields: Array = NONE) -> Array:
    """Return boxes around the words of a form: left, top, right and bottom, (n, 4), in pixels.

    Args:
        strength: of its strokes, (h, w).
        fields: boxes of fields, (n, 4), whose frames and writing are no words.
    """
    dark = (strength > DARK).view(np.uint8)
    for left, top, right, bottom in fields.round().astype(int).clip(BORDER):
        dark[top - BORDER : bottom + BORDER, left - BORDER : right + BORDER] = 0
    lines = np.zeros_like(dark)
    for around, line in (((3, 1), (1, LINE)), ((1, 3), (LINE, 1))):
        thick = cv2.dilate(dark, np.ones(around, np.uint8))
        lines |= cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones(line, np.uint8))
    dark[cv2.dilate(lines, np.ones((5, 5), np.uint8)) > 0] = 0
    joined = cv2.dilate(dark, np.ones((3, SPACE), np.uint8))
    *_, stats, _ = cv2.connectedComponentsWithStats(joined)
    words = []
    for left, top, width, height, _ in stats[1:].tolist():
        width -= SPACE - 1
        if HEIGHT[0] <= height <= HEIGHT[1] and width >= WIDTH[0]:
            edges = left + SPACE // 2 + np.linspace(0, width, 1 + -(-width // WIDTH[1])).round()
            words += [(a, top, b, top + height) for a, b in pairwise(edges)]
    return np.array(words[:MOST], np.float64).reshape(-1, 4)


def likeness(words: Array, *, reference: Image, page: Image) -> Array:
    """Return how alike the words of two pictures are, (n,): 1 if they are the same.

    Args:
        words: their boxes, (n, 4).
        reference: strength of the strokes, (h, w).
        page: the same of the page, as the reference shows it, (h, w).
    """
    reference, page = (
        soft - cv2.blur(soft, (STROKES, 1))
        for soft in (blurred(reference, SOFT), blurred(page, SOFT))
    )
    room = cv2.copyMakeBorder(page, FAR, FAR, FAR, FAR, cv2.BORDER_CONSTANT)
    alike = np.zeros(len(words))
    for number, (left, top, right, bottom) in enumerate(words.astype(int).clip(0)):
        word = reference[top:bottom, left:right]
        around = room[top : bottom + 2 * FAR, left : right + 2 * FAR]
        alike[number] = cv2.matchTemplate(around, word, cv2.TM_CCOEFF_NORMED).max()
    return alike


def is_filled(words: Array, boxes: Array) -> bool:
    """Return True if something is written into the fields of a form, (n, 4).

    Then there may be handwriting beside the fields as well, which no other page has.
    """
    words = words[:, None]  # (m, 1, 4)
    middle = (words[..., :2] + words[..., 2:]) / 2
    inside = ((middle > boxes[:, :2]) & (middle < boxes[:, 2:])).all(axis=2)
    low = words[..., 3] - words[..., 1] < LOW * (boxes[:, 3] - boxes[:, 1])
    return bool((inside & low).any(axis=0).sum() > FILLED * len(boxes))


def near(words: Array, box: Array, *, many: bool) -> npt.NDArray[np.intp]:
    """Return the numbers of the words that stand by a field; none if no word is near.

    Args:
        words: their boxes, (n, 4).
        box: that of the field.
        many: return all words of the field's row and around it instead of the nearest ones.
    """
    across, down = np.maximum(box[:2] - words[:, 2:], words[:, :2] - box[2:]).clip(0).T
    middle = (words[:, 1] + words[:, 3]) / 2
    row = (middle > box[1]) & (middle < box[3])
    far = BESIDE * across + np.where(row, 0, down + OTHER_ROW)
    close = np.flatnonzero(row | (far < CLOSE))
    if many or not len(close):
        return close
    nearest = close[np.argsort(far[close])][:NEAREST]
    return nearest[far[nearest] < far[close].min() + SAME]
