"""A page and a form → the number in each field, and how it looks."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.errors import FormError, PictureError
from nnpipe.forms.alignment import IN_PLACE, Aligner, Alignment
from nnpipe.forms.checks import settle
from nnpipe.forms.description import Form
from nnpipe.forms.fields import Cut, cells_of, cut_out, prepared
from nnpipe.forms.geometry import Array, corners, mapped, square
from nnpipe.numbers.constraints import Wanted
from nnpipe.numbers.reading import Number
from nnpipe.numbers.ways import PreparedNumber
from nnpipe.preprocess import Picture, Pixels
from nnpipe.preprocess.decoders import Opened
from nnpipe.preprocess.pictures import grey, open_picture

ENOUGH = 5000
"""Pixels of a page's longer side that suffice, or up to twice as many: A4 at 300 dpi has 3508."""

VISIBLE = 0.9
"""Share of a field that must lie on the page."""

SURE = 0.95
"""Probability of a number below which somebody should look at it."""

FIRM = 0.8
"""Probability of a number from which a check does not change it without somebody's look."""

OUTSIDE = "the field lies outside the picture"
NOT_IN_PLACE = "this part of the page does not match the form"


class PageReading(NamedTuple):
    """What was read from a page."""

    numbers: list[Number]  # one for each field, in the form's order
    alignment: float  # 0…1: how much of the form's print is in place; 0 if it is another page
    crops: list[Pixels]  # of each field; none if it is another page
    corners: Array  # (fields, 4, 2), clockwise from the upper left, in pixels of the page


def read_page(picture: Picture, form: Form, *, classifier: Classifier) -> PageReading:
    """Read the fields of a page.

    A page that does not show the form is no error: its fields are rejected.

    Args:
        picture: the page; see `preprocess.pictures.Picture`.
        form: what the page should look like.
        classifier: reads the numbers.

    Raises:
        PictureError: it cannot be read as a picture.
        FormError: the form's reference cannot be used.
    """
    opened = open_picture(picture, enough=ENOUGH)
    levels = levels_of(opened)
    scale = np.array([opened.width, opened.height]) / levels.shape[::-1]
    aligner, reference = _aligner(form.reference)
    size = reference.shape[::-1]
    boxes = np.array([field.box for field in form.fields]) * [*size, *size]
    boxes[:, 2:] += boxes[:, :2]
    place = opened.damage or aligner.find(levels, boxes)
    if isinstance(place, str):
        refused = _refused(place, width=opened.width, height=opened.height)
        nowhere = np.zeros((len(boxes), 4, 2))
        return PageReading([refused] * len(boxes), 0.0, [], nowhere)
    cuts = [
        cut_out(levels, box, matrix=matrix, reference=reference, cells=cells_of(field))
        for box, matrix, field in zip(boxes, place.fields, form.fields, strict=True)
    ]
    refusals = _refusals(place, boxes, page=levels.shape)
    numbers = _read(form, cuts, classifier=classifier, refusals=refusals)
    placed = [
        _on_page(number, np.diag([*scale, 1]) @ cut.matrix, opened=opened)
        for number, cut in zip(numbers, cuts, strict=True)
    ]
    settled = settle(form, placed) if form.checks else placed
    places = np.array([mapped(corners(box), m) for box, m in zip(boxes, place.fields, strict=True)])
    answers = [_doubted(number, own) for number, own in zip(settled, placed, strict=True)]
    return PageReading(answers, place.quality, [cut.pixels for cut in cuts], places * scale)


def levels_of(opened: Opened) -> Pixels:
    """Return the brightness of a page, uint8 (h, w), with square pixels."""
    levels = square(grey(opened.image, enough=ENOUGH), opened.image.info.get("dpi"))
    return np.rint(levels).astype(np.uint8)


@lru_cache(maxsize=4)
def _aligner(reference: bytes) -> tuple[Aligner, Pixels]:
    """Return the aligner of a reference, and its brightness."""
    try:
        levels = levels_of(open_picture(reference, enough=ENOUGH))
    except PictureError as error:
        raise FormError(f"the reference of the form: {error}") from None
    return Aligner(levels), levels


def _read(
    form: Form, cuts: Sequence[Cut], *, classifier: Classifier, refusals: Sequence[str]
) -> list[Number]:
    """Read the fields without a refusal; those that want the same numbers together."""
    numbers = [_refused(reason) for reason in refusals]
    groups: dict[Wanted, list[tuple[int, PreparedNumber]]] = defaultdict(list)
    for index, (field, cut) in enumerate(zip(form.fields, cuts, strict=True)):
        if not refusals[index]:
            wanted, one = prepared(cut, field)
            groups[wanted].append((index, one))
    for wanted, group in groups.items():
        some = [one for _, one in group]
        read = classifier.read_numbers(some, wanted, keep=bool(form.checks))
        for (index, _), number in zip(group, read, strict=True):
            numbers[index] = number
    return numbers


def _refusals(place: Alignment, boxes: Array, *, page: tuple[int, ...]) -> list[str]:
    """Return for each field why it cannot be read; an empty text if it can be."""
    refusals = []
    for box, matrix, quality in zip(boxes, place.fields, place.qualities, strict=True):
        x, y = np.meshgrid(np.linspace(box[0], box[2], 8), np.linspace(box[1], box[3], 8))
        points = mapped(np.stack([x.ravel(), y.ravel()], axis=1), matrix)
        on_page = ((points >= 0) & (points <= page[::-1])).all(axis=1)
        refusal = "" if quality >= IN_PLACE else NOT_IN_PLACE
        refusals.append(refusal if on_page.mean() >= VISIBLE else OUTSIDE)
    return refusals


def _refused(reason: str, *, width: int | None = None, height: int | None = None) -> Number:
    return Number("rejected", confidence=0.0, reason=reason, width=width, height=height)


def _on_page(number: Number, matrix: Array, *, opened: Opened) -> Number:
    """Return a number whose digits' boxes are in pixels of the page."""
    digits = []
    for digit in number.digits:
        points = mapped(corners(digit[2:]), matrix)
        box = *points.min(axis=0).round(1).tolist(), *points.max(axis=0).round(1).tolist()
        digits.append(digit._replace(left=box[0], top=box[1], right=box[2], bottom=box[3]))
    reason = "; ".join(filter(None, (number.reason, opened.note)))
    number = replace(number, digits=tuple(digits), reason=reason)
    return replace(number, width=opened.width, height=opened.height)


def _doubted(number: Number, own: Number) -> Number:
    """Return a number that is doubtful unless it is sure.

    Args:
        number: the answer.
        own: what the field shows by itself. If that was firm, no check changes it unseen.
    """
    if number.status != "ok":
        return number
    changed = own.label not in (None, number.label) and (own.confidence or 0) >= FIRM
    if (number.confidence or 0) >= SURE and not changed:
        return number
    why = "" if changed else f"confidence below {SURE:.0%}"
    reason = "; ".join(filter(None, (why, number.reason)))
    return replace(number, status="doubtful", reason=reason)
