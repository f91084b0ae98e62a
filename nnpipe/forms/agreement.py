"""How much of a form's print a page has at the same places, as a whole and around each field."""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.forms.geometry import Array
from nnpipe.forms.strokes import STRONG, Image, scaling, warped
from nnpipe.forms.words import is_filled, likeness, near, words_of

NEAR = 2
"""Distance in pixels within which the page has the reference's print if it is in place."""

SHIFTS = (11, 17, 23)
"""Pixels by which the page is moved to learn how much print is in place by chance."""

LEAST_PRINT = 50
"""Dark pixels by whose places a form can be told from others."""

EXPLAINED = 0.25
"""Share of the page's dark pixels that the reference has as well; of fewer, the form is another."""

LEAST_VISIBLE = 0.4
"""Share of the reference's print that must lie on the page."""

FRAME, LINE = 6, 0.6
"""Distance from a field's border in which its frame lies, in pixels, and share of the length of a
side that has print if there is a line."""

STRAIGHT = 15
"""Length of a straight part of a line, in pixels."""

TEXT = 8
"""Words of a form that has text, outside of its fields."""

BEST, BEST_OF_SOME = 0.25, 0.1
"""Share of the words that must be the same on the page; the second if some are handwriting."""

Mask = npt.NDArray[np.bool_]


class Agreement(NamedTuple):
    """How well a page agrees with a form, 0…1."""

    words: float | None  # likeness of the best words; None without text
    fields: Array  # (n,), of the print around each field; 1 without any


class Print:
    """The print of a form.

    Args:
        pyramid: strength of its strokes, as `strokes.shrunken` returns it.
    """

    def __init__(self, pyramid: Mapping[int, Image]) -> None:
        self.pyramid = pyramid
        self.masks = {n: one > STRONG for n, one in pyramid.items()}
        self.words = words_of(pyramid[1])

    def quality(self, matrix: Array, page: Mapping[int, Image], *, shrunk: int) -> float:
        """Return how much of the print is in place on a page, beyond chance: 0…1.

        Args:
            matrix: pixels of the form → pixels of the page, both of full size.
            page: strength of its strokes, as `strokes.shrunken` returns it.
            shrunk: by how much both are made smaller, to be faster.
        """
        onto = scaling(1 / shrunk, 1 / shrunk)
        matrix = onto @ matrix @ np.linalg.inv(onto)
        strength, mask = page[shrunk], self.masks[shrunk]
        paper = warped(np.ones(strength.shape, np.float32), matrix, shape=mask.shape) > 0.5
        visible = mask & paper
        if visible.sum() < max(LEAST_VISIBLE * int(mask.sum()), LEAST_PRINT / shrunk):
            return 0.0
        dark = warped(strength, matrix, shape=mask.shape) > STRONG
        radius = max(NEAR // shrunk, 1)
        explained = (_grown(mask, radius) & dark).sum() / max(dark.sum(), 1)
        return _beyond_chance(_grown(dark, radius), visible) * min(float(explained) / EXPLAINED, 1)

    def agreement(self, matrix: Array, page: Image, *, boxes: Array, shifts: Array) -> Agreement:
        """Return how well a page agrees with the form.

        Args:
            matrix: pixels of the form → pixels of the page.
            page: strength of its strokes.
            boxes: left, top, right and bottom of each field, (n, 4).
            shifts: how far each field lies from its place, in pixels of the form, (n, 2).
        """
        strength = self.pyramid[1]
        seen = warped(page, matrix, shape=strength.shape)
        words, filled = words_of(strength, fields=boxes), is_filled(self.words, boxes)
        alike = likeness(words, reference=strength, page=seen)
        share = BEST_OF_SOME if filled else BEST
        text = float(np.quantile(alike, 1 - share)) if len(words) >= TEXT else None
        dark = _grown(seen > STRONG, NEAR)
        fields = np.ones(len(boxes))
        for number, (box, shift) in enumerate(zip(boxes, shifts, strict=True)):
            own = alike[near(words, box, many=filled)]
            label = (own.max() if filled else own.mean()) if len(own) else 1.0
            fields[number] = min(label, self._frame(dark, box=box, shift=shift))
        return Agreement(text, fields)

    def _frame(self, dark: Mask, *, box: Array, shift: Array) -> float:
        """Return how much of a field's frame is in place, 0…1, by the worst side but one.

        A side may be faint, or under a stamp. It is 1 without a frame.
        """
        room = FRAME + SHIFTS[-1]
        x, y = (
            np.arange(round(low) - room, round(high) + room)
            for low, high in zip(box[:2], box[2:], strict=True)
        )
        reference = _part(self.masks[1], x=x, y=y)
        right, down = shift.round().astype(int)
        page = _part(dark, x=x + right, y=y + down)
        across, down = (x >= box[0]) & (x < box[2]), (y >= box[1]) & (y < box[3])
        sides = [1.0, 1.0]
        for number, border in enumerate(box):
            upright = number % 2 == 0
            by = np.abs((x if upright else y) - border) < FRAME
            strip = np.outer(down, by) if upright else np.outer(by, across)
            print_ = _straight(reference & strip, upright=upright)
            if print_.any(axis=int(upright)).sum() > LINE * (down if upright else across).sum():
                sides.append(_beyond_chance(page, print_))
        return sorted(sides)[1]


def _straight(mask: Mask, *, upright: bool) -> Mask:
    """Return the straight parts of lines along an axis, without what is written across them."""
    kernel = np.ones((STRAIGHT, 1) if upright else (1, STRAIGHT), np.uint8)
    return cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, kernel) > 0


def _part(image: Mask, *, x: Array, y: Array) -> Mask:
    """Return a part of a picture; what lies outside is like the edge."""
    height, width = image.shape
    return image[np.ix_(y.clip(0, height - 1), x.clip(0, width - 1))]


def _grown(mask: Mask, radius: int) -> Mask:
    return cv2.dilate(mask.view(np.uint8), np.ones((2 * radius + 1,) * 2, np.uint8)) > 0


def _beyond_chance(near: Mask, print_: Mask) -> float:
    """Return which share of the reference's print is near the page's, beyond chance: 0…1."""
    count = max(int(print_.sum()), 1)
    share, *others = (
        float((np.roll(near, (dy, dx), (0, 1)) & print_).sum() / count)
        for dx, dy in [(0, 0), *((x, y) for n in SHIFTS for x in (-n, n) for y in (-n, n))]
    )
    chance = float(np.mean(others))
    return max(share - chance, 0.0) / max(1 - chance, 1e-6)
