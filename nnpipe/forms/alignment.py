"""Where a page shows a form.

Guesses (`correlation`, `features`) are refined from coarse to fine (`refinement`), first as a
whole, and then around each field, because paper bends. The print of the page decides which one is
right, whether the page shows the form at all, and which fields can be read (`agreement`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.forms.agreement import LEAST_PRINT, Print
from nnpipe.forms.correlation import Correlation
from nnpipe.forms.features import Features, features_of
from nnpipe.forms.geometry import Array, corners, is_sane, mapped
from nnpipe.forms.refinement import Refinement
from nnpipe.forms.strokes import STRONG, Image, even_light, shrunken, small
from nnpipe.preprocess.pictures import Pixels

GUESSES, FINE = 8, 2
"""Places that are tried at a coarse scale, and of the best of these in full."""

GOOD, GOOD_WITHOUT_TEXT = 0.6, 0.75
"""Quality below which a page does not look like the form. Of pages that the benchmark composes,
other ones have at most 0.5, and those of the form at least 0.8. Without text, some forms with a row
more or less have 0.7."""

SAME_WORDS = 0.7
"""Likeness of the words below which a page shows another form. Of composed pages of the form it is
0.86 and more, also at 75 dpi; of four other words at one place, three have at most 0.65."""

IN_PLACE = 0.65
"""Quality of a field below which the print around it is not in place. It is 0.73 and more if it is,
also at 75 dpi; of words that are not the same, one in ten has more than 0.7."""

MOST_LOST = 1 / 3
"""Share of the fields that may be out of place; of more, all count as out of place, because the
page may show another version of the form."""

REPEATS, AS_WELL, APART = 8, 0.05, 12.0
"""Places at which a form without text may look like itself; by how much the quality there may be
lower for the place to be unclear; and pixels by which a corner lies elsewhere."""

NOT_THIS_FORM = "this page does not look like the form"
AMBIGUOUS = "the form fits at several places; print a title on it, to tell top from bottom"

CLEAR = 0.8
"""Quality above which no other way is tried."""


class Alignment(NamedTuple):
    """Where a page shows a form."""

    quality: float  # 0…1: how much of the reference's print is in place
    fields: Array  # (n, 3, 3), for each field, pixels of the reference → pixels of the page
    qualities: Array  # (n,), 0…1: how much of its frame and its label is in place


class Aligner:
    """Finds a form on pages.

    Args:
        reference: brightness of a page that shows the form, uint8 (h, w).
    """

    def __init__(self, reference: Pixels) -> None:
        levels, self.onto = small(reference)
        self.shape = levels.shape
        self.even, strength = even_light(levels)
        pyramid = shrunken(strength)
        self.print_ = Print(pyramid)
        self.correlation = Correlation(strength)
        self.refinement = Refinement(pyramid)

    @cached_property
    def features(self) -> Features:
        """Those of the reference."""
        return features_of(self.even)

    @cached_property
    def repeats(self) -> list[Array]:
        """Where else the form looks like itself: homographies from the form to the form."""
        own = self.print_.pyramid
        guesses = self.correlation.repeats(own[1], count=REPEATS)
        places = [self.refinement.refined(guess, own, fine=False) for guess in guesses]
        return [matrix for quality, matrix in self._rated(places, own, shrunk=1) if quality > GOOD]

    def find(self, page: Pixels, boxes: Array) -> Alignment | str:
        """Find the form on a page.

        Args:
            page: brightness, uint8 (h, w).
            boxes: left, top, right and bottom of each field, (n, 4), in pixels of the reference.

        Returns:
            Where it is; or why the page is none of the form, or why that cannot be told.
        """
        levels, onto = small(page)
        even, strength = even_light(levels)
        if (strength > STRONG).sum() < LEAST_PRINT:
            return NOT_THIS_FORM
        pyramid = shrunken(strength)
        guesses = self.correlation.guesses(strength, count=GUESSES)
        quality, matrix = self._best(guesses, pyramid)
        if quality < CLEAR:
            others = self.features.guesses(features_of(even))
            quality, matrix = max((quality, matrix), self._best(others, pyramid), key=_first)
        if quality < GOOD:
            return NOT_THIS_FORM
        scale = np.diag(self.onto)[:2]
        boxes = boxes * [*scale, *scale]
        shifts = self.refinement.shifts(matrix, pyramid, boxes=boxes)
        agreement = self.print_.agreement(matrix, strength, boxes=boxes, shifts=shifts)
        if agreement.words is None and quality < GOOD_WITHOUT_TEXT:
            return NOT_THIS_FORM
        if agreement.words is None and self._fits_elsewhere(matrix, quality, page=pyramid):
            return AMBIGUOUS
        if agreement.words is not None and agreement.words < SAME_WORDS:
            return NOT_THIS_FORM
        here = _on_page(boxes, matrix, page=strength.shape)
        lost = int((agreement.fields[here] < IN_PLACE).sum())
        qualities = agreement.fields * (lost <= max(1, MOST_LOST * here.sum()))
        moved = np.repeat(np.eye(3)[None], len(shifts), axis=0)
        moved[:, :2, 2] = shifts
        fields = np.linalg.inv(onto) @ matrix @ moved @ self.onto
        return Alignment(quality, fields, qualities)

    def _best(self, guesses: Sequence[Array], page: Mapping[int, Image]) -> tuple[float, Array]:
        """Refine guesses, and return the best quality with its homography."""
        coarse = [self.refinement.refined(guess, page, fine=False) for guess in guesses]
        # Where paper is bent or much is written, the refinement may not converge.
        rated = self._rated([*guesses, *coarse], page, shrunk=4)[:FINE]
        fine = [self.refinement.refined(matrix, page, fine=True) for _, matrix in rated]
        rated = self._rated([*fine, *(matrix for _, matrix in rated)], page, shrunk=1)
        return rated[0] if rated else (0.0, np.eye(3))

    def _fits_elsewhere(self, matrix: Array, quality: float, *, page: Mapping[int, Image]) -> bool:
        """Return True if the form fits a page as well at another place, such as upside down."""
        others = [self.refinement.refined(matrix @ one, page, fine=True) for one in self.repeats]
        sheet = corners((0, 0, *self.shape[::-1]))
        here = mapped(sheet, matrix)
        return any(
            rated > quality - AS_WELL and np.abs(mapped(sheet, other) - here).max() > APART
            for rated, other in self._rated(others, page, shrunk=1)
        )

    def _rated(
        self, matrices: Sequence[Array], page: Mapping[int, Image], *, shrunk: int
    ) -> list[tuple[float, Array]]:
        """Return homographies with their qualities, the best first."""
        sane = [matrix for matrix in matrices if is_sane(matrix, self.shape)]
        rated = [(self.print_.quality(matrix, page, shrunk=shrunk), matrix) for matrix in sane]
        return sorted(rated, key=_first, reverse=True)


def _on_page(boxes: Array, matrix: Array, *, page: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return for each field whether its middle lies on the page, (n,)."""
    middle = mapped((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    return np.asarray(((middle >= 0) & (middle < page[::-1])).all(axis=1))


def _first(rated: tuple[float, Array]) -> float:
    return rated[0]
